mod apart;
pub(super) mod backward;
mod comparison;
mod force_scatter;
mod instructions;
mod lists;
mod result;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use ff_kernels::fused_message::tabulate;
use ff_kernels::host::peak::{self, Peak};
use ff_reference::fused_message::forward;
use ff_reference::radial::{RadialKind, default_parameters};
use ff_spec::fused_message::{Activation, Filter, FilterKind, Inputs, Message, Outputs, Radial, Reduction, Variant};
use ff_spec::{
    Dtype, FusedMessage, Launch, LaunchConfig, LaunchError, OPS, Prepare, Problem, Runtime, RuntimeKind,
    SCHEMA_VERSION, cell_list, cost, fused_message,
};
use ff_structure::{MessageSpec, builtin, message_inputs, random_linear, random_mlp, read_frames, read_structures};
use ff_tables::{Loaded, load_all};
use ff_testkit::gate::Gated;
use ff_testkit::generators::rounded;

use self::apart::Start;
use self::comparison::{against, comparable, compare_stored, same_machine, show_comparisons, verdict};
use self::result::{Floor, Report, Row, Samples, read_report, show};
use super::eval::choose;
use super::verify::writable;
use crate::failure::{Failure, Result};
use crate::machine::Machine;
use crate::options::BenchArgs;
use crate::screen::{Left, Screen};
use crate::variants::meant;
use crate::{interrupt, runtimes, tensors, variants, workload};

/// A message step with its sizes.
#[derive(Clone)]
struct Case {
    name: String,
    message: Message,
    filter: FilterKind,
    /// Whether the filter is sampled into a table first.
    tabulated: bool,
    problem: &'static str,
    cutoff: f64,
    features: usize,
    n_basis: usize,
    dtype: Dtype,
}

/// Hidden width of mlp filters.
const HIDDEN: usize = 128;
/// Derivatives stored per node of a table: quintic segments, which need the least memory for their error.
const TABLE_ORDER: usize = 3;
/// Relative error of tables: a tenth of what the gate allows in f32.
const TABLE_TOLERANCE: f64 = 1e-6;
/// Receivers that are compared with the oracle: all of them would take minutes on a large problem.
const CHECKED_ROWS: usize = 64;

impl Case {
    /// The exact, untabulated variant, and its radial functions.
    fn exact(&self) -> Variant {
        let basis = if self.message == Message::Painn { "bessel" } else { "gaussian" };
        Variant {
            message: self.message,
            filter: self.filter,
            radial: Some((basis.to_owned(), "cosine".to_owned())),
            reduction: Reduction::Receiver,
        }
    }
}

/// A case of any op.
#[derive(Clone)]
enum Bench {
    Message(Case),
    Backward(backward::Case),
    Scatter(force_scatter::Case),
    List(lists::Case),
}

impl Bench {
    fn name(&self) -> &str {
        match self {
            Bench::Message(case) => &case.name,
            Bench::Backward(case) => &case.name,
            Bench::Scatter(case) => &case.name,
            Bench::List(case) => &case.name,
        }
    }

    fn op(&self) -> &'static str {
        match self {
            Bench::Message(_) | Bench::Backward(_) => fused_message::OP,
            Bench::Scatter(_) => ff_spec::force_scatter::OP,
            Bench::List(_) => cell_list::OP,
        }
    }

    fn runs_on(&self, runtime: RuntimeKind) -> bool {
        match self {
            Bench::Message(_) | Bench::Backward(_) | Bench::Scatter(_) => true,
            Bench::List(case) => case.runs_on(runtime),
        }
    }

    fn measure(
        &self,
        runtime: &(dyn Runtime + 'static),
        roof: Option<Peak>,
        args: &BenchArgs,
        screen: &Screen,
    ) -> Result<Row> {
        match self {
            Bench::Message(case) => measure(case, runtime, roof, args, screen),
            Bench::Backward(case) => backward::measure(case, runtime, args, screen),
            Bench::Scatter(case) => force_scatter::measure(case, runtime, roof, args, screen),
            Bench::List(case) => lists::measure(case, runtime, roof, args, screen),
        }
    }
}

/// The built-in suite: PaiNN's message at the size that peers are compared at, then one axis changed at a time; SchNet's.
fn suite() -> Vec<Case> {
    let painn = Case {
        name: "painn-linear".to_owned(),
        message: Message::Painn,
        filter: FilterKind::Linear,
        tabulated: false,
        problem: "water-1333",
        cutoff: 5.0,
        features: 128,
        n_basis: 20,
        dtype: Dtype::F32,
    };
    let schnet = Case {
        name: "schnet-mlp".to_owned(),
        message: Message::Cfconv,
        filter: FilterKind::Mlp,
        n_basis: 50,
        ..painn.clone()
    };
    let change = |suffix: &str, case: &Case, change: fn(&mut Case)| {
        let mut case = Case { name: format!("{}-{suffix}", case.name), ..case.clone() };
        change(&mut case);
        case
    };
    let tabulated = Case { name: "painn-tabulated".to_owned(), tabulated: true, ..painn.clone() };
    vec![
        change("f64", &painn, |c| c.dtype = Dtype::F64),
        change("64-features", &painn, |c| c.features = 64),
        change("256-features", &painn, |c| c.features = 256),
        change("degree-12", &painn, |c| c.cutoff = 3.224),
        change("degree-120", &painn, |c| c.cutoff = 6.568),
        change("999-atoms", &painn, |c| c.problem = "water-333"),
        change("15999-atoms", &painn, |c| c.problem = "water-5333"),
        change("50001-atoms", &painn, |c| c.problem = "water-16667"),
        change("benzene", &painn, |c| c.problem = "c6h6"),
        change("benzene", &tabulated, |c| c.problem = "c6h6"),
        change("50001-atoms", &tabulated, |c| c.problem = "water-16667"),
        Case { name: "schnet-tabulated".to_owned(), tabulated: true, ..schnet.clone() },
        schnet,
        tabulated,
        painn,
    ]
    .into_iter()
    .rev()
    .collect()
}

/// Times the suite.
pub fn run(args: &BenchArgs, screen: &Screen) -> Result<()> {
    if let Some(table) = &args.instructions {
        return instructions::run(table, args, screen);
    }
    let cases = chosen(args)?;
    if args.list {
        return cases.iter().try_for_each(|case| screen.line(case.name()));
    }
    // Its workers read the same files.
    if !args.serve {
        for path in &args.structure {
            workload::warn(&read_frames(path).map_err(Failure::input)?.warnings, screen);
        }
    }
    if args.fail_over <= 0.0 {
        return Err(Failure::input("--fail-over 0%: expected above 0%, a slow-down that can be caught"));
    }
    let old = args.compare.as_deref().map(read_report).transpose()?;
    if let Some(path) = &args.save {
        writable(path)?;
    }
    if let Some(dir) = &args.export {
        fs::create_dir_all(dir).map_err(|e| Failure::input(format!("cannot create {}: {e}", dir.display())))?;
    }
    if let Some(threads) = args.threads {
        // One of them is this thread, which would otherwise only wait for the others.
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads.into())
            .use_current_thread()
            .build_global()
            .map_err(Failure::fault)?;
    }
    let runtime = runtimes::open(args.runtime, screen)?;
    let (device, threads) = (runtime.device().clone(), rayon::current_num_threads());
    let machine = Machine::of(&device, threads);
    if let (Some(path), Some(old)) = (&args.compare, &old) {
        same_machine(path, old, &machine)?;
    }
    if args.serve {
        let [case] = &cases[..] else { return Err(Failure::input("--serve expects one --case")) };
        let row = case.measure(runtime.as_ref(), None, args, screen)?;
        return screen.line(serde_json::to_string(&row).map_err(Failure::fault)?);
    }
    // What Ctrl-C finds measured is kept.
    interrupt::flag();
    let roof = (device.runtime == RuntimeKind::Host).then(peak::measure);
    if let Some(roof) = roof {
        screen.headline(format!(
            "{threads} threads; measured: {:.0} GFLOP/s in f32, {:.0} in f64, {:.1} GB/s copied",
            roof.f32 / 1e9,
            roof.f64 / 1e9,
            roof.bytes / 1e9
        ))?;
    }
    if device.software {
        screen.warn("a software adapter: these times say nothing of a GPU");
    }
    let (here, not_here): (Vec<Bench>, Vec<Bench>) = cases.into_iter().partition(|case| case.runs_on(device.runtime));
    for case in &not_here {
        screen.warn(format!("{}: not measured, it exists on host only", case.name()));
    }
    if let (Some(path), Some(old), None) = (&args.compare, &old, &args.baseline_binary) {
        comparable(path, old, &here, runtime.clock(), args.processes())?;
    }
    let mut report = Report {
        schema: SCHEMA_VERSION,
        forgefield: env!("CARGO_PKG_VERSION").to_owned(),
        machine,
        clock: runtime.clock(),
        threads,
        peak: roof.map(|roof| [roof.f32, roof.f64, roof.bytes]),
        rows: Vec::new(),
        comparisons: Vec::new(),
        device,
    };
    let start = Start { args, runtime: report.device.runtime };
    match &args.baseline_binary {
        Some(baseline) => against(baseline, &start, &here, &mut report, screen)?,
        None if args.processes() > 1 => apart(&start, &here, roof, &mut report, screen)?,
        None => {
            for case in here.iter().take_while(|_| !interrupt::raised()) {
                screen.say(case.name());
                report.rows.push(case.measure(runtime.as_ref(), roof, args, screen)?);
            }
        }
    }
    // What was measured is shown, whatever comes of writing and comparing it.
    let saved = args.save.as_deref().map_or(Ok(()), |path| save(path, &report));
    let mut compared = Ok(());
    if let (Some(path), Some(old), None, false) = (&args.compare, &old, &args.baseline_binary, interrupt::raised()) {
        match compare_stored(path, old, &report.rows, args, screen) {
            Ok(comparisons) => report.comparisons = comparisons,
            Err(failure) => compared = Err(failure),
        }
    }
    if args.json {
        screen.json(&report)?;
    } else {
        show(&report.rows, screen)?;
        show_comparisons(&report.comparisons, screen)?;
    }
    saved.and(compared)?;
    if interrupt::raised() {
        return Err(Failure::interrupted("interrupted: the cases after that were not measured"));
    }
    if old.is_some() || args.baseline_binary.is_some() {
        verdict(&report.comparisons, args.fail_over, screen)?;
    }
    Ok(())
}

fn save(path: &Path, report: &Report) -> Result<()> {
    let text = serde_json::to_string(report).map_err(Failure::fault)?;
    ff_tables::fs::replace(path, (text + "\n").as_bytes())
        .map_err(|e| Failure::input(format!("cannot write {}: {e}", path.display())))
}

/// Times every case in several processes. They come round by round, so that what the machine does meanwhile is spread over
/// all cases.
fn apart(start: &Start<'_>, cases: &[Bench], roof: Option<Peak>, report: &mut Report, screen: &Screen) -> Result<()> {
    let processes = start.args.processes();
    let mut rows: Vec<Option<Row>> = cases.iter().map(|_| None).collect();
    let progress = screen.progress((processes * cases.len()) as u64, Left::Estimated);
    for round in 0..processes {
        for (at, (case, row)) in cases.iter().zip(&mut rows).enumerate() {
            progress.step((round * cases.len() + at) as u64, case.name());
            if interrupt::raised() {
                break;
            }
            match start.one_more(case.name(), row) {
                Err(failure) if failure.code == 130 => break,
                other => other?,
            }
        }
        progress.plain(format!("{} of {processes} processes of each case", round + 1));
    }
    progress.end();
    report.rows = rows.into_iter().flatten().map(|row| row.under(roof)).collect();
    Ok(())
}

/// The cases that are asked for.
fn chosen(args: &BenchArgs) -> Result<Vec<Bench>> {
    for op in &args.op {
        variants::op_of(op, "bench", OPS)?;
    }
    let mut all: Vec<Bench> = suite().into_iter().map(Bench::Message).collect();
    all.extend(backward::suite().into_iter().map(Bench::Backward));
    for path in &args.structure {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        for base in suite().into_iter().filter(|c| ["painn-linear", "painn-tabulated"].contains(&c.name.as_str())) {
            all.push(Bench::Message(Case { name: format!("{}-{name}", base.name), problem: "", ..base }));
        }
    }
    all.extend(force_scatter::suite().into_iter().map(Bench::Scatter));
    all.extend(lists::suite().into_iter().map(Bench::List));
    all.retain(|case| args.op.is_empty() || args.op.iter().any(|op| op == case.op()));
    if args.case.is_empty() {
        return Ok(all);
    }
    args.case
        .iter()
        .map(|name| {
            all.iter().find(|case| case.name() == name).cloned().ok_or_else(|| {
                let known: Vec<&str> = all.iter().map(Bench::name).collect();
                Failure::input(format!(
                    "unknown case `{name}`{}; expected one of {}",
                    meant(name, &known),
                    known.join(", ")
                ))
            })
        })
        .collect()
}

/// The exact inputs of a case.
fn inputs(case: &Case, args: &BenchArgs) -> Result<Inputs<f64>> {
    let structures = if case.problem.is_empty() {
        let path = args
            .structure
            .iter()
            .find(|path| case.name.ends_with(&*path.file_stem().unwrap_or_default().to_string_lossy()));
        let path = path.ok_or_else(|| Failure::input(format!("case `{}` has no structure file", case.name)))?;
        let mut frames = read_structures(path).map_err(Failure::input)?;
        // Latency is that of one molecule.
        frames.truncate(1);
        frames
    } else {
        builtin(case.problem).map_err(Failure::input)?
    };
    let variant = case.exact();
    let channels = case.message.parts() * case.features;
    let parameters =
        |name: &str, kind| default_parameters(name, kind, case.cutoff, case.n_basis).map_err(Failure::input);
    let (basis, cutoff) = variant.radial.clone().unwrap_or_default();
    let spec = MessageSpec {
        message: case.message,
        features: case.features,
        radial: Radial {
            r_cut: case.cutoff,
            n_basis: case.n_basis,
            basis: parameters(&basis, RadialKind::Basis)?,
            cutoff: parameters(&cutoff, RadialKind::Cutoff)?,
        },
        filter: match case.filter {
            FilterKind::Mlp => random_mlp(case.n_basis, HIDDEN, channels, Activation::ShiftedSoftplus, 0),
            FilterKind::Linear | FilterKind::Tabulated => random_linear(case.n_basis, channels, 0),
        },
        seed: 0,
    };
    message_inputs(&structures, case.cutoff, &spec).map_err(Failure::input)
}

/// What a case is about: its exact inputs, and the variant, inputs, sizes and configuration that are launched.
struct Chosen {
    exact: Inputs<f64>,
    variant: Variant,
    inputs: Inputs<f64>,
    problem: Problem,
    config: LaunchConfig,
}

/// The tables of an op; says which cannot be read.
fn tables(op: &str, args: &BenchArgs, screen: &Screen) -> Loaded {
    let tables = load_all(&args.tables, op);
    for error in &tables.errors {
        screen.warn(format!("warning: {error}"));
    }
    tables
}

fn prepare(case: &Case, runtime: &dyn Prepare, args: &BenchArgs, screen: &Screen) -> Result<Chosen> {
    let exact = rounded(&inputs(case, args)?, case.dtype);
    let exact_variant = case.exact();
    let (variant, inputs) = if case.tabulated {
        let table = tabulate(&exact_variant, &exact, TABLE_ORDER, TABLE_TOLERANCE)?;
        let filter: Filter<f64> = table.filter;
        let radial = Radial { r_cut: exact.radial.r_cut, ..Radial::default() };
        let variant = Variant { filter: FilterKind::Tabulated, radial: None, ..exact_variant };
        (variant, rounded(&Inputs { filter, radial, ..exact.clone() }, case.dtype))
    } else {
        (exact_variant, exact.clone())
    };
    let problem = inputs.problem(if case.problem.is_empty() { &case.name } else { case.problem });
    let tables = tables(ff_spec::fused_message::OP, args, screen);
    let (_, config) = choose(runtime, &tables, &variant, case.dtype, &inputs, &problem);
    Ok(Chosen { exact, variant, inputs, problem, config })
}

fn measure(case: &Case, runtime: &dyn Runtime, roof: Option<Peak>, args: &BenchArgs, screen: &Screen) -> Result<Row> {
    let runtime: &dyn Prepare = runtime;
    let Chosen { exact, variant, inputs, problem, config } = prepare(case, runtime, args, screen)?;
    let mut launch = runtime.prepare(&variant, case.dtype, &inputs, &config)?;
    let step = checked_step(&inputs);
    let oracle = forward(&variant, &some_receivers(&inputs, step)).map_err(Failure::fault)?;
    let known = |outputs: &mut Outputs<f64>| mask(outputs, inputs.n_atoms, step);
    let before = check::<FusedMessage>(launch.as_mut(), &oracle, case.dtype, known)?;
    if let Some(dir) = &args.export {
        let outputs = launch.outputs()?;
        export(
            &dir.join(format!("{}.in.safetensors", case.name)),
            &tensors::write_inputs(&exact, std::iter::empty(), case.dtype)?,
        )?;
        let note = format!("outputs of {variant} under {config}");
        export(
            &dir.join(format!("{}.out.safetensors", case.name)),
            &tensors::write(&outputs, Vec::new(), &inputs, case.dtype, note)?,
        )?;
    }
    // Inputs and outputs are there already.
    let tensors = tensor_bytes(&inputs, case.dtype).max(1) as f64;
    let memory = peak_of(|| launch.run())?.map(|extra| 1.0 + extra as f64 / tensors);
    let samples = time(args, || Ok(launch.time()?))?;
    let after = check::<FusedMessage>(launch.as_mut(), &oracle, case.dtype, known)?;
    let cost = cost(&variant, &problem, case.dtype);
    let floor = Floor { flops: cost.flops, bytes: cost.compulsory_bytes };
    Ok(Row {
        case: case.name.clone(),
        variant: variant.id(),
        dtype: case.dtype,
        ns_per_edge: samples.timing.median_ns / problem.n_edges.max(1) as f64,
        floor: Some(floor),
        problem,
        config,
        samples,
        floor_ns: None,
        bound: None,
        rel_error: before.max(after),
        memory,
    }
    .under(roof))
}

/// The most samples of a block, and how long it goes on; one sample is taken in any case.
const BLOCK: (usize, Duration) = (32, Duration::from_millis(10));
/// The fewest blocks.
const FEWEST_BLOCKS: usize = 5;

/// A few consecutive samples in ns.
fn block_of(sample: &mut impl FnMut() -> Result<Duration>) -> Result<Vec<u64>> {
    let (begin, mut block) = (Instant::now(), Vec::new());
    while block.is_empty() || (block.len() < BLOCK.0 && begin.elapsed() < BLOCK.1) {
        // A coarse clock may say 0, of which there is no ratio.
        block.push(u64::try_from(sample()?.as_nanos()).unwrap_or(u64::MAX).max(1));
    }
    Ok(block)
}

/// Takes samples for as long as is asked for, at least five blocks; or when it is asked for them.
fn time(args: &BenchArgs, mut sample: impl FnMut() -> Result<Duration>) -> Result<Samples> {
    if args.serve {
        return apart::serve(sample);
    }
    let (begin, mut blocks) = (Instant::now(), Vec::new());
    let time = Duration::from_secs_f64(args.seconds());
    while blocks.len() < FEWEST_BLOCKS || (begin.elapsed() < time && blocks.len() < 10_000) {
        blocks.push(block_of(&mut sample)?);
        if interrupt::raised() {
            break;
        }
    }
    Samples::of(vec![blocks])
}

/// One receiver of so many is compared with the oracle.
pub(super) fn checked_step(inputs: &Inputs<f64>) -> usize {
    inputs.n_atoms.div_ceil(CHECKED_ROWS).max(1)
}

/// The same atoms with the edges of every `step`-th receiver alone.
pub(super) fn some_receivers(inputs: &Inputs<f64>, step: usize) -> Inputs<f64> {
    let mut part = Inputs { row_ptr: vec![0], sender: Vec::new(), edge_vec: Vec::new(), ..inputs.clone() };
    for row in 0..inputs.n_atoms {
        if row % step == 0 {
            let edges = inputs.row_ptr[row] as usize..inputs.row_ptr[row + 1] as usize;
            part.sender.extend_from_slice(&inputs.sender[edges.clone()]);
            part.edge_vec.extend_from_slice(&inputs.edge_vec[3 * edges.start..3 * edges.end]);
        }
        part.row_ptr.push(part.sender.len() as u32);
    }
    part
}

/// Zeros in all finite outputs but those of every `step`-th receiver: of the others it is known that they were written.
pub(super) fn mask(outputs: &mut Outputs<f64>, n_atoms: usize, step: usize) {
    for values in [&mut outputs.nodes, &mut outputs.vectors] {
        let per_row = values.len() / n_atoms.max(1);
        for (row, values) in values.chunks_exact_mut(per_row.max(1)).enumerate() {
            if row % step != 0 {
                values.iter_mut().filter(|v| v.is_finite()).for_each(|v| *v = 0.0);
            }
        }
    }
}

/// Runs the kernel on poisoned outputs and compares what is left of them by `known`; their relative error.
fn check<O: Gated>(
    launch: &mut dyn Launch<O>,
    oracle: &O::Oracle,
    dtype: Dtype,
    known: impl Fn(&mut O::Outputs),
) -> Result<f64> {
    launch.poison()?;
    launch.run()?;
    let mut outputs = launch.outputs()?;
    known(&mut outputs);
    compare::<O>(&outputs, oracle, dtype)
}

/// The relative error of outputs.
fn compare<O: Gated>(outputs: &O::Outputs, oracle: &O::Oracle, dtype: Dtype) -> Result<f64> {
    match O::compare(outputs, oracle, dtype) {
        Ok((rel_error, _)) => Ok(rel_error),
        Err(verdict) => {
            let reason = verdict.reason().unwrap_or_default();
            Err(Failure::unmet(format!("not timed, the output is wrong: {reason}")))
        }
    }
}

/// Bytes of inputs and outputs.
fn tensor_bytes(inputs: &Inputs<f64>, dtype: Dtype) -> usize {
    let floats: usize = inputs.tensors().iter().map(|(_, _, values)| values.len()).sum();
    let outputs = inputs.poisoned_outputs();
    let elements = floats + outputs.nodes.len() + outputs.vectors.len();
    elements * dtype.size() + 4 * (inputs.row_ptr.len() + inputs.sender.len())
}

/// Bytes that become resident while something runs, at their peak; `None` where the system does not say.
pub(super) fn peak_of(run: impl FnOnce() -> std::result::Result<(), LaunchError>) -> Result<Option<usize>> {
    let status = |field: &str| -> Option<usize> {
        let text = fs::read_to_string("/proc/self/status").ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(field))?;
        line.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse::<usize>().ok().map(|kib| kib * 1024)
    };
    // 5 resets the peak to what is resident now.
    if fs::write("/proc/self/clear_refs", "5").is_err() {
        return Ok(None);
    }
    let Some(resident) = status("VmRSS") else { return Ok(None) };
    run()?;
    Ok(status("VmHWM").map(|peak| peak.saturating_sub(resident)))
}

fn export(path: &Path, bytes: &[u8]) -> Result<()> {
    ff_tables::fs::replace(path, bytes).map_err(|e| Failure::input(format!("cannot write {}: {e}", path.display())))
}
