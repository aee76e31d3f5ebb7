use ff_kernels::cube::blueprint::{Blueprint, Described};
use ff_kernels::cube::{cuda, spirv};
use ff_kernels::fused_message::{Registered, default_config, find};
use ff_spec::fused_message::{OP, Variant};
use ff_spec::{Cost, Dtype, LaunchConfig, LaunchError, Prepare, Problem, SCHEMA_VERSION, cost};
use ff_tune::{Part, Spaces, Target as SpaceTarget};
use serde::Serialize;

use crate::failure::{Failure, Result};
use crate::inspect::nvrtc::Nvrtc;
use crate::inspect::{Footprint, gate, gpu};
use crate::options::{Emit, InspectArgs, InspectTarget};
use crate::screen::{Screen, columns, nanoseconds};
use crate::{variants, workload};

/// What is inspected, as every form of output begins.
#[derive(Serialize)]
struct Subject {
    schema: u32,
    op: &'static str,
    variant: String,
    dtype: Dtype,
    target: InspectTarget,
    problem: Problem,
    config: LaunchConfig,
}

/// Code for one architecture.
#[derive(Serialize)]
struct Code {
    arch: String,
    entry: Option<String>,
    text: String,
}

#[derive(Serialize)]
struct Resourced {
    #[serde(flatten)]
    subject: Subject,
    nvrtc: Option<Tool>,
    kernels: Vec<Kernel>,
    cost: Cost,
    intensity: f64,
    rooflines: Vec<Roofline>,
}

#[derive(Serialize)]
struct Tool {
    version: String,
    path: String,
}

/// A kernel on one architecture.
#[derive(Serialize)]
struct Kernel {
    arch: String,
    #[serde(flatten)]
    footprint: Footprint,
}

/// The least time that a part can take, in ns.
#[derive(Serialize)]
struct Roofline {
    part: &'static str,
    arch: String,
    peak_flops: f64,
    bandwidth: f64,
    arithmetic_ns: f64,
    compulsory_ns: f64,
    gathered_ns: f64,
    bound_ns: f64,
    bound_by: &'static str,
    source: &'static str,
}

/// Prints what a variant and a configuration become.
pub fn run(args: &InspectArgs, screen: &Screen) -> Result<()> {
    variants::op_of(&args.op, "inspect", &[OP])?;
    if let Some(share) = args.share {
        return gate::share(share, screen);
    }
    if let Some(path) = &args.gate {
        return gate::run(path, args.update, args.json, screen);
    }
    let id = args.variant.as_deref().unwrap_or_default();
    let variant = variants::one(id)?;
    let registered = find(&variant).ok_or_else(|| LaunchError::UnknownVariant(variant.id()))?;
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
    let problem = workload::sizes_of(&args.problem, &variant, &args.sizes)?;
    let versions: Vec<u32> = args.arch.iter().map(|arch| arch.0).collect();
    match args.target {
        InspectTarget::Cuda => {
            let devices = versions.iter().map(|v| cuda::describe(*v)).collect::<Vec<_>>();
            let config = config(args, &variant, &devices, &problem)?;
            let subject = subject(args, &variant, &problem, &config);
            on_cuda(args, emit, subject, registered, &versions, &devices, screen)
        }
        InspectTarget::Vulkan => {
            let devices = [spirv::describe()];
            let config = config(args, &variant, &devices, &problem)?;
            let subject = subject(args, &variant, &problem, &config);
            if emit == Emit::Resources {
                return resources(subject, None, Vec::new(), &[], args.json, screen);
            }
            let blueprint = Blueprint::new(registered, &devices[0], args.dtype, &problem, &config).map_err(unfit)?;
            let text = spirv::emit((registered.define)(&blueprint))?;
            print(args, subject, vec![Code { arch: devices[0].device.arch.clone(), entry: None, text }], screen)
        }
        InspectTarget::Host => {
            let device: Box<dyn Prepare> = ff_kernels::open(ff_spec::RuntimeKind::Host).map_err(Failure::fault)?;
            let config = overlay(args, &variant, device.default_config(&variant, args.dtype, &problem))?;
            let subject = subject(args, &variant, &problem, &config);
            if emit == Emit::Resources {
                return resources(subject, None, Vec::new(), &[], args.json, screen);
            }
            let text = registered.text.to_owned();
            print(args, subject, vec![Code { arch: device.device().arch.clone(), entry: None, text }], screen)
        }
    }
}

fn subject(args: &InspectArgs, variant: &Variant, problem: &Problem, config: &LaunchConfig) -> Subject {
    Subject {
        schema: SCHEMA_VERSION,
        op: OP,
        variant: variant.id(),
        dtype: args.dtype,
        target: args.target,
        problem: problem.clone(),
        config: config.clone(),
    }
}

/// A configuration that the user gave and no device can hold is bad input, not a fault.
fn unfit(error: LaunchError) -> Failure {
    match error {
        LaunchError::Constraint(_) => Failure::input(error),
        error => error.into(),
    }
}

/// The default configuration with what the user sets; the first device's where devices differ.
fn config(args: &InspectArgs, variant: &Variant, devices: &[Described], problem: &Problem) -> Result<LaunchConfig> {
    let Some(first) = devices.first() else {
        return Err(Failure::input("--arch names no architecture, expected one such as sm_90"));
    };
    overlay(args, variant, default_config(&first.device, variant, args.dtype, problem))
}

fn overlay(args: &InspectArgs, variant: &Variant, mut config: LaunchConfig) -> Result<LaunchConfig> {
    let target = if args.target == InspectTarget::Host { SpaceTarget::Host } else { SpaceTarget::Cube };
    let spaces = Spaces::fused_message().map_err(Failure::fault)?;
    let space = spaces.get(target, Part::Reduction(variant.reduction), 0).map_err(Failure::fault)?;
    let known: Vec<&str> = space.parameters().iter().map(|(name, _)| name.as_str()).collect();
    for (name, value) in &args.config {
        if !known.contains(&name.as_str()) {
            let (hint, known) = (variants::meant(name, &known), known.join(", "));
            return Err(Failure::input(format!("unknown parameter `{name}` in --config{hint}, expected {known}")));
        }
        config.0.insert(name.clone(), *value);
    }
    Ok(config)
}

fn on_cuda(
    args: &InspectArgs,
    emit: Emit,
    subject: Subject,
    registered: &'static Registered,
    versions: &[u32],
    devices: &[Described],
    screen: &Screen,
) -> Result<()> {
    let mut sources = Vec::new();
    for (version, device) in versions.iter().zip(devices) {
        let blueprint =
            Blueprint::new(registered, device, args.dtype, &subject.problem, &subject.config).map_err(unfit)?;
        let units = blueprint.units();
        sources.push((cuda::emit(*version, (registered.define)(&blueprint))?, units));
    }
    let arch = |version: &u32| format!("sm_{version}");
    if emit == Emit::Source {
        let code = versions.iter().zip(sources);
        let code = code.map(|(v, (s, _))| Code { arch: arch(v), entry: Some(s.entry), text: s.source }).collect();
        return print(args, subject, code, screen);
    }
    let nvrtc = Nvrtc::find().map_err(Failure::fault)?;
    for version in versions {
        known_to(&nvrtc, *version)?;
    }
    let (mut code, mut kernels) = (Vec::new(), Vec::new());
    for (version, (source, units)) in versions.iter().zip(sources) {
        let compiled = nvrtc
            .compile(&source.source, *version)
            .map_err(|log| Failure::fault(format!("NVRTC refused the kernel for sm_{version}: {log}")))?;
        if emit == Emit::Ptx {
            code.push(Code { arch: arch(version), entry: Some(source.entry), text: compiled.ptx });
            continue;
        }
        let footprint = Footprint::new(&compiled.log, &source, units, *version).map_err(Failure::fault)?;
        kernels.push(Kernel { arch: arch(version), footprint });
    }
    if emit == Emit::Ptx {
        return print(args, subject, code, screen);
    }
    let tool = Tool { version: nvrtc.version(), path: nvrtc.path.display().to_string() };
    resources(subject, Some(tool), kernels, versions, args.json, screen)
}

/// Checks that NVRTC compiles for an architecture.
fn known_to(nvrtc: &Nvrtc, version: u32) -> Result<()> {
    let known = nvrtc.archs();
    if known.contains(&version) {
        return Ok(());
    }
    let list: Vec<String> = known.iter().map(|v| format!("sm_{v}")).collect();
    let message = format!("NVRTC {} does not know sm_{version}, expected {}", nvrtc.version(), list.join(", "));
    Err(Failure::input(message))
}

/// Prints code: all of it as JSON, or as text with a comment between architectures.
fn print(args: &InspectArgs, subject: Subject, code: Vec<Code>, screen: &Screen) -> Result<()> {
    #[derive(Serialize)]
    struct Printed {
        #[serde(flatten)]
        subject: Subject,
        code: Vec<Code>,
    }
    if args.json {
        return screen.json(&Printed { subject, code });
    }
    let mark = if args.target == InspectTarget::Vulkan { ";" } else { "//" };
    for part in code {
        let Subject { variant, dtype, config, .. } = &subject;
        screen.line(format!("{mark} {variant} in {dtype} for {}: {config}", part.arch))?;
        screen.line(part.text.trim_end())?;
    }
    Ok(())
}

fn resources(
    subject: Subject,
    nvrtc: Option<Tool>,
    kernels: Vec<Kernel>,
    versions: &[u32],
    json: bool,
    screen: &Screen,
) -> Result<()> {
    let variant: Variant = subject.variant.parse().map_err(Failure::fault)?;
    let cost = cost(&variant, &subject.problem, subject.dtype);
    let rooflines: Vec<Roofline> = gpu::PARTS_KNOWN
        .iter()
        .filter(|part| versions.contains(&part.version))
        .map(|part| roofline(part, &cost, subject.dtype))
        .collect();
    let report = Resourced { intensity: cost.intensity(), subject, nvrtc, kernels, cost, rooflines };
    if json {
        return screen.json(&report);
    }
    let Subject { variant, dtype, target, problem, config, .. } = &report.subject;
    screen.line(format!("{variant} in {dtype} on {}: {config}", target.name()))?;
    screen.line(format!(
        "problem {}: {} atoms, {} edges, F = {}, K = {}, H = {}",
        problem.name, problem.n_atoms, problem.n_edges, problem.features, problem.n_basis, problem.hidden
    ))?;
    if let Some(tool) = &report.nvrtc {
        screen.line(format!("NVRTC {}, {}", tool.version, tool.path))?;
        let rows: Vec<Vec<String>> = report.kernels.iter().map(kernel_cells).collect();
        let header =
            ["ARCH", "REGISTERS", "STACK", "SPILLED", "SHARED", "THREADS", "BLOCKS/SM", "OCCUPANCY", "LIMITED BY"];
        screen.line("")?;
        for line in columns(&header, &rows, "lrrrrrrrl") {
            screen.line(line)?;
        }
    }
    let Cost { flops, filter_flops, message_flops, compulsory_bytes, gathered_bytes } = cost;
    screen.line("")?;
    screen.line(format!("{flops} FLOPs: filter {filter_flops}, message {message_flops}"))?;
    screen
        .line(format!("{compulsory_bytes} compulsory bytes; {gathered_bytes} where senders are read once per edge"))?;
    screen.line(format!("{:.1} FLOPs per compulsory byte", report.intensity))?;
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

fn kernel_cells(kernel: &Kernel) -> Vec<String> {
    let Footprint { resources, shared_memory, units, occupancy } = &kernel.footprint;
    let [blocks, fraction, limiter] = match occupancy {
        Some(o) => [o.blocks.to_string(), format!("{:.0} %", 100.0 * o.fraction), o.limiter.clone()],
        None => ["–", "–", "limits not known here"].map(str::to_owned),
    };
    vec![
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

fn roofline(part: &gpu::Part, cost: &Cost, dtype: Dtype) -> Roofline {
    let peak = part.peak(dtype.size());
    let ns = |amount: u64, per_second: f64| amount as f64 / per_second * 1e9;
    let arithmetic_ns = ns(cost.flops, peak);
    let compulsory_ns = ns(cost.compulsory_bytes, part.bandwidth);
    Roofline {
        part: part.name,
        arch: format!("sm_{}", part.version),
        peak_flops: peak,
        bandwidth: part.bandwidth,
        arithmetic_ns,
        compulsory_ns,
        gathered_ns: ns(cost.gathered_bytes, part.bandwidth),
        bound_ns: arithmetic_ns.max(compulsory_ns),
        bound_by: if arithmetic_ns > compulsory_ns { "arithmetic" } else { "memory" },
        source: part.source,
    }
}

fn roofline_cells(r: &Roofline) -> Vec<String> {
    let time = |ns: f64| nanoseconds(ns);
    vec![
        r.part.to_owned(),
        r.arch.clone(),
        time(r.bound_ns),
        r.bound_by.to_owned(),
        time(r.arithmetic_ns),
        time(r.compulsory_ns),
        time(r.gathered_ns),
        r.source.to_owned(),
    ]
}
