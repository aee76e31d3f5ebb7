//! `inspect`: what a variant and a configuration become.

pub mod args;
mod model;

use ff_record::{Kernel, Recorder, Target};
use ff_spec::{Cost, Device, Dtype, LaunchConfig, LaunchError, Problem, RuntimeKind, SCHEMA_VERSION};
use serde::Serialize;

use self::args::{Emit, InspectArgs, InspectTarget};
use crate::failure::{Failure, Result};
use crate::inspect::nvrtc::Nvrtc;
use crate::inspect::subject::Subject;
use crate::inspect::{Footprint, emitted, gate, gpu};
use crate::ops::{self, Counted};
use crate::screen::{Screen, columns, nanoseconds};

/// What is inspected, as every form of output begins.
#[derive(Serialize)]
struct Header {
    schema: u32,
    op: &'static str,
    variant: String,
    order: u8,
    dtype: Dtype,
    target: InspectTarget,
    problem: Problem,
    config: LaunchConfig,
    #[serde(skip)]
    subject: Subject,
}

/// Code of one kernel for one architecture.
#[derive(Serialize)]
struct KernelCode {
    arch: String,
    /// Absent where the code is a whole file.
    kernel: Option<String>,
    entry: Option<String>,
    text: String,
}

#[derive(Serialize)]
struct Resourced {
    #[serde(flatten)]
    header: Header,
    nvrtc: Option<Tool>,
    kernels: Vec<CompiledKernel>,
    #[serde(flatten)]
    counted: Counted,
    intensity: Option<f64>,
    rooflines: Vec<Roofline>,
}

#[derive(Serialize)]
struct Tool {
    version: String,
    path: String,
}

/// A kernel on one architecture.
#[derive(Serialize)]
struct CompiledKernel {
    arch: String,
    kernel: String,
    #[serde(flatten)]
    footprint: Footprint,
}

/// The least time that a part can take, in ns; what is not counted is absent.
#[derive(Serialize)]
struct Roofline {
    part: &'static str,
    arch: String,
    peak_flops: f64,
    bandwidth: f64,
    arithmetic_ns: Option<f64>,
    compulsory_ns: f64,
    gathered_ns: Option<f64>,
    bound_ns: f64,
    bound_by: &'static str,
    source: &'static str,
}

/// Prints what a variant and a configuration become.
pub fn run(args: &InspectArgs, screen: &Screen) -> Result<()> {
    match (args.op.as_str(), &args.file) {
        ("model", Some(path)) => return model::run(args, path, screen),
        ("model", None) => return Err(Failure::input("no file of a model, expected `inspect model FILE`")),
        (op, Some(path)) => {
            let message = format!("unexpected `{}` after `{op}`, expected `inspect model FILE`", path.display());
            return Err(Failure::input(message));
        }
        (op, None) => ops::find(op)?,
    };
    if args.compile_tasks {
        return gate::compile_tasks(screen);
    }
    if let Some(path) = &args.gate {
        return gate::run(&args.op, path, args.update, args.json, screen);
    }
    if let Some(path) = &args.emitted {
        return emitted::run(&args.op, path, args.update, args.json, screen);
    }
    let Some(variant) = &args.variant else {
        return Err(Failure::input(format!("no variant of `{}`, expected --variant, --gate or --emitted", args.op)));
    };
    let subject = Subject::find(&args.op, variant, args.order)?;
    let possible = match args.target {
        InspectTarget::Cuda => [Emit::Resources, Emit::Source, Emit::Ptx].as_slice(),
        InspectTarget::Vulkan => &[Emit::Resources, Emit::Spirv],
        InspectTarget::Host => &[Emit::Resources, Emit::Source],
    };
    let emit = args.emit;
    if !possible.contains(&emit) {
        let list: Vec<String> = possible.iter().map(|e| format!("`{}`", e.name())).collect();
        return Err(Failure::input(format!(
            "target `{}` has no `{}`, expected {}",
            args.target.name(),
            emit.name(),
            list.join(" or ")
        )));
    }
    let problem = subject.problem(&args.problem, &args.sizes)?;
    match args.target {
        InspectTarget::Cuda => {
            let versions: Vec<u16> = args.arch.iter().map(|arch| arch.0).collect();
            let recorders: Vec<Recorder> = versions.iter().map(|v| Recorder::new(Target::Cuda(*v))).collect();
            let Some(first) = recorders.first() else {
                return Err(Failure::input("--arch names no architecture, expected one such as sm_90"));
            };
            // The first device's default where they differ.
            let header = header(args, subject, problem, first.device())?;
            on_cuda(args, header, &versions, &recorders, screen)
        }
        InspectTarget::Vulkan => {
            let recorder = Recorder::new(Target::Vulkan);
            let header = header(args, subject, problem, recorder.device())?;
            if emit == Emit::Resources {
                return resources(header, None, Vec::new(), &[], args.json, screen);
            }
            let arch = &recorder.device().arch;
            let code = recorded(args, &header, &recorder)?.into_iter().map(|kernel| code(arch, kernel, None));
            let code = code.collect();
            print(args, header, code, screen)
        }
        InspectTarget::Host => {
            let host: Box<dyn Device> = ff_kernels::open(RuntimeKind::Host).map_err(Failure::fault)?;
            let header = header(args, subject, problem, host.device())?;
            if emit == Emit::Resources {
                return resources(header, None, Vec::new(), &[], args.json, screen);
            }
            let text = header.subject.op.text(header.subject.id);
            let code = KernelCode { arch: host.device().arch.clone(), kernel: None, entry: None, text };
            print(args, header, vec![code], screen)
        }
    }
}

/// The default configuration with what the user sets.
fn header(args: &InspectArgs, subject: Subject, problem: Problem, device: &ff_spec::DeviceId) -> Result<Header> {
    let mut config = subject.default_config(device, args.dtype, &problem);
    let known: Vec<String> = config.0.keys().cloned().collect();
    for (name, value) in &args.config {
        if !known.contains(name) {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let (hint, known) = (ops::meant(name, &known), known.join(", "));
            return Err(Failure::input(format!("unknown parameter `{name}` in --config{hint}, expected {known}")));
        }
        config.0.insert(name.clone(), *value);
    }
    Ok(Header {
        schema: SCHEMA_VERSION,
        op: subject.op.name(),
        variant: subject.id.to_owned(),
        order: subject.order(),
        dtype: args.dtype,
        target: args.target,
        problem,
        config,
        subject,
    })
}

/// The kernels of a call under the header's configuration.
fn recorded(args: &InspectArgs, header: &Header, recorder: &Recorder) -> Result<Vec<Kernel>> {
    let call = header.subject.call(&args.sizes)?;
    call.record(recorder, header.dtype, &header.config).map_err(|error| match error {
        // A configuration that the user gave and no device can hold is bad input, not a fault.
        LaunchError::Constraint(_) => Failure::input(error),
        error => error.into(),
    })
}

/// A kernel's own text, or what was made of it.
fn code(arch: &str, kernel: Kernel, made: Option<String>) -> KernelCode {
    let Kernel { name, entry, text, .. } = kernel;
    KernelCode { arch: arch.to_owned(), kernel: Some(name), entry: Some(entry), text: made.unwrap_or(text) }
}

fn on_cuda(
    args: &InspectArgs,
    header: Header,
    versions: &[u16],
    recorders: &[Recorder],
    screen: &Screen,
) -> Result<()> {
    let mut sources = Vec::new();
    for (version, recorder) in versions.iter().zip(recorders) {
        sources.extend(recorded(args, &header, recorder)?.into_iter().map(|kernel| (*version, kernel)));
    }
    let arch = |version: u16| format!("sm_{version}");
    if args.emit == Emit::Source {
        let code = sources.into_iter().map(|(version, kernel)| code(&arch(version), kernel, None)).collect();
        return print(args, header, code, screen);
    }
    let nvrtc = Nvrtc::find().map_err(Failure::fault)?;
    for version in versions {
        known_to(&nvrtc, *version)?;
    }
    let (mut ptx, mut kernels) = (Vec::new(), Vec::new());
    for (version, kernel) in sources {
        let compiled = nvrtc.compile(&kernel.text, version).map_err(|log| {
            Failure::fault(format!("NVRTC refused the kernel {} for {}: {log}", kernel.name, arch(version)))
        })?;
        if args.emit == Emit::Ptx {
            ptx.push(code(&arch(version), kernel, Some(compiled.ptx)));
            continue;
        }
        let footprint = Footprint::new(&compiled.log, &kernel, version).map_err(Failure::fault)?;
        kernels.push(CompiledKernel { arch: arch(version), kernel: kernel.name, footprint });
    }
    if args.emit == Emit::Ptx {
        return print(args, header, ptx, screen);
    }
    let tool = Tool { version: nvrtc.version(), path: nvrtc.path.display().to_string() };
    resources(header, Some(tool), kernels, versions, args.json, screen)
}

/// Checks that NVRTC compiles for an architecture.
fn known_to(nvrtc: &Nvrtc, version: u16) -> Result<()> {
    let known = nvrtc.archs();
    if known.contains(&version) {
        return Ok(());
    }
    let list: Vec<String> = known.iter().map(|v| format!("sm_{v}")).collect();
    let message = format!("NVRTC {} does not know sm_{version}, expected {}", nvrtc.version(), list.join(", "));
    Err(Failure::input(message))
}

/// Prints code: all of it as JSON, or as text with a comment before each kernel.
fn print(args: &InspectArgs, header: Header, code: Vec<KernelCode>, screen: &Screen) -> Result<()> {
    #[derive(Serialize)]
    struct Printed {
        #[serde(flatten)]
        header: Header,
        code: Vec<KernelCode>,
    }
    if args.json {
        return screen.json(&Printed { header, code });
    }
    let mark = if args.target == InspectTarget::Vulkan { ";" } else { "//" };
    for part in code {
        let Header { subject, dtype, config, .. } = &header;
        let kernel = part.kernel.map(|name| format!(", kernel `{name}`")).unwrap_or_default();
        screen.line(format!("{mark} {} in {dtype} for {}{kernel}: {config}", subject.name(), part.arch))?;
        screen.line(part.text.trim_end())?;
    }
    Ok(())
}

fn resources(
    header: Header,
    nvrtc: Option<Tool>,
    kernels: Vec<CompiledKernel>,
    versions: &[u16],
    json: bool,
    screen: &Screen,
) -> Result<()> {
    let counted = header.subject.counted(&header.problem, header.dtype);
    let rooflines: Vec<Roofline> = gpu::PARTS_KNOWN
        .iter()
        .filter(|part| versions.contains(&part.version))
        .map(|part| roofline(part, &counted, header.dtype))
        .collect();
    let intensity = counted.cost.map(|cost| cost.intensity());
    let report = Resourced { intensity, header, nvrtc, kernels, counted, rooflines };
    if json {
        return screen.json(&report);
    }
    let Header { subject, dtype, target, problem, config, .. } = &report.header;
    screen.line(format!("{} in {dtype} on {}: {config}", subject.name(), target.name()))?;
    let Problem { name, n_atoms, n_systems, n_edges, features, n_basis, hidden, axes, .. } = problem;
    let own: String = axes.iter().map(|(axis, size)| format!(", {axis} = {size}")).collect();
    // An op sees either features or systems.
    screen.line(if *features > 0 {
        format!("problem {name}: {n_atoms} atoms, {n_edges} edges, F = {features}, K = {n_basis}, H = {hidden}{own}")
    } else {
        format!("problem {name}: {n_atoms} atoms in {n_systems} systems, {n_edges} edges{own}")
    })?;
    if let Some(tool) = &report.nvrtc {
        screen.line(format!("NVRTC {}, {}", tool.version, tool.path))?;
        let rows: Vec<Vec<String>> = report.kernels.iter().map(kernel_cells).collect();
        let header = [
            "KERNEL",
            "ARCH",
            "REGISTERS",
            "STACK",
            "SPILLED",
            "SHARED",
            "THREADS",
            "BLOCKS/SM",
            "OCCUPANCY",
            "LIMITED BY",
        ];
        screen.line("")?;
        for line in columns(&header, &rows, "llrrrrrrrl") {
            screen.line(line)?;
        }
    }
    screen.line("")?;
    print_counts(*features > 0, subject.order(), &report.counted, screen)?;
    if report.rooflines.is_empty() {
        return screen.line("no roofline: no documented peaks for this device");
    }
    let rows: Vec<Vec<String>> = report.rooflines.iter().map(roofline_cells).collect();
    screen.line("")?;
    let header = ["PART", "ARCH", "AT LEAST", "BOUND BY", "ARITHMETIC", "COMPULSORY", "GATHERED", "PEAKS FROM"];
    for line in columns(&header, &rows, "llrlrrrl") {
        screen.line(line)?;
    }
    Ok(())
}

/// Where there are features, filter and message are told apart.
fn print_counts(features: bool, order: u8, counted: &Counted, screen: &Screen) -> Result<()> {
    let Some(cost) = &counted.cost else {
        screen.line("FLOPs are not counted: they depend on how many candidates are looked at")?;
        return screen.line(format!("{} compulsory bytes", counted.compulsory_bytes));
    };
    let Cost { flops, filter_flops, message_flops, weight_flops, compulsory_bytes, gathered_bytes } = cost;
    screen.line(match (features, order) {
        (true, 0) => format!("{flops} FLOPs: filter {filter_flops}, message {message_flops}"),
        (true, _) => format!("{flops} FLOPs: filter {filter_flops}, message {message_flops}, weights {weight_flops}"),
        (false, _) => format!("{flops} FLOPs"),
    })?;
    screen.line(match (features, order) {
        (true, 0) => {
            format!("{compulsory_bytes} compulsory bytes; {gathered_bytes} where senders are read once per edge")
        }
        _ => format!("{compulsory_bytes} compulsory bytes; {gathered_bytes} of other atoms where each edge reads them"),
    })?;
    screen.line(format!("{:.1} FLOPs per compulsory byte", cost.intensity()))
}

fn kernel_cells(kernel: &CompiledKernel) -> Vec<String> {
    let Footprint { resources, shared_memory, units, occupancy } = &kernel.footprint;
    let [blocks, fraction, limiter] = match occupancy {
        Some(o) => [o.blocks.to_string(), format!("{:.0} %", 100.0 * o.fraction), o.limiter.clone()],
        None => ["–", "–", "limits not known here"].map(str::to_owned),
    };
    vec![
        kernel.kernel.clone(),
        kernel.arch.clone(),
        resources.registers.to_string(),
        resources.stack.to_string(),
        (resources.spill_stores + resources.spill_loads).to_string(),
        shared_memory.to_string(),
        units.to_string(),
        blocks,
        fraction,
        limiter,
    ]
}

fn roofline(part: &gpu::Part, counted: &Counted, dtype: Dtype) -> Roofline {
    let peak = part.peak(dtype.size());
    let ns = |amount: u64, per_second: f64| amount as f64 / per_second * 1e9;
    let arithmetic_ns = counted.cost.map(|cost| ns(cost.flops, peak));
    let compulsory_ns = ns(counted.compulsory_bytes, part.bandwidth);
    let longer = arithmetic_ns.filter(|arithmetic| *arithmetic > compulsory_ns);
    Roofline {
        part: part.name,
        arch: format!("sm_{}", part.version),
        peak_flops: peak,
        bandwidth: part.bandwidth,
        arithmetic_ns,
        compulsory_ns,
        gathered_ns: counted.cost.map(|cost| ns(cost.gathered_bytes, part.bandwidth)),
        bound_ns: longer.unwrap_or(compulsory_ns),
        bound_by: if longer.is_some() { "arithmetic" } else { "memory" },
        source: part.source,
    }
}

fn roofline_cells(r: &Roofline) -> Vec<String> {
    let counted = |ns: Option<f64>| ns.map_or_else(|| "–".to_owned(), nanoseconds);
    vec![
        r.part.to_owned(),
        r.arch.clone(),
        nanoseconds(r.bound_ns),
        r.bound_by.to_owned(),
        counted(r.arithmetic_ns),
        nanoseconds(r.compulsory_ns),
        counted(r.gathered_ns),
        r.source.to_owned(),
    ]
}
