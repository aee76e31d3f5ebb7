//! The suite of `cell_list`: liquids of a thousand to a million atoms, molecules, and a batch against its systems one by
//! one.

use std::time::{Duration, Instant};

use ff_kernels::cell_list::host::SkinList;
use ff_kernels::cell_list::host_config;
use ff_kernels::host::peak::Peak;
use ff_reference::cell_list::search_rows;
use ff_spec::cell_list::{Inputs, List, NeighborList, OP, Strategy, Variant};
use ff_spec::{CellList, Dtype, Prepare, Runtime, RuntimeKind};
use ff_testkit::cell_list::systems::rounded_batch;
use ff_testkit::sampling::Rows;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::commands::bench::args::BenchArgs;
use crate::commands::bench::{CHECKED_ROWS, Case, Floor, Row, check, compare, export, peak_of, tables, time};
use crate::commands::eval::choose;
use crate::failure::{Failure, Result};
use crate::screen::Screen;
use crate::tensors::{Tensor, write};

/// Å; also what the peers are asked for.
const CUTOFF: f64 = 5.0;
/// Å.
const SKIN: f64 = 0.5;
/// Atoms per Å³, as in water.
const DENSITY: f64 = 0.1;

/// A list with its sizes.
#[derive(Clone, Debug)]
pub struct Search {
    name: String,
    variant: Variant,
    dtype: Dtype,
    /// Atoms of each system.
    n_atoms: usize,
    n_systems: usize,
    calls: Calls,
}

/// What one sample times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Calls {
    /// One call into memory of its own, as the first of a program.
    First,
    /// One call into the memory of the call before it, as in molecular dynamics.
    Repeated,
    /// One call for every system, each into memory of its own.
    OneByOne,
    /// An update of a list with a skin of 0.5 Å, as wide as the others in all, whose atoms have moved too little for a build.
    /// Host only.
    Update,
}

/// The built-in suite: lists in f64 as the peers make them, then one axis changed at a time.
pub fn suite() -> Vec<Search> {
    let full = Variant { list: List::Full, strategy: Strategy::Cells };
    let list = |name: &str, n_atoms: usize| Search {
        name: format!("list-{name}"),
        variant: full,
        dtype: Dtype::F64,
        n_atoms,
        n_systems: 1,
        calls: Calls::First,
    };
    let liquid = |n: usize| list(&format!("{n}-atoms"), n);
    let half = Variant { list: List::Half, ..full };
    let brute = Variant { strategy: Strategy::Brute, ..full };
    vec![
        liquid(3_000),
        liquid(30_000),
        liquid(100_000),
        liquid(1_000_000),
        // What a list costs apart from fresh pages, by size.
        Search { calls: Calls::Repeated, ..list("30000-atoms-repeated", 30_000) },
        Search { calls: Calls::Repeated, ..list("100000-atoms-repeated", 100_000) },
        Search { calls: Calls::Repeated, ..list("1000000-atoms-repeated", 1_000_000) },
        Search { calls: Calls::Update, ..list("100000-atoms-update", 100_000) },
        Search { dtype: Dtype::F32, ..list("100000-atoms-f32", 100_000) },
        Search { variant: half, ..list("100000-atoms-half", 100_000) },
        list("64-atoms", 64),
        Search { variant: brute, ..list("64-atoms-brute", 64) },
        Search { n_systems: 512, ..list("512-systems-of-64", 64) },
        Search { n_systems: 512, calls: Calls::Repeated, ..list("512-systems-of-64-repeated", 64) },
        Search { n_systems: 512, calls: Calls::OneByOne, ..list("512-systems-of-64-one-by-one", 64) },
    ]
}

impl Case for Search {
    fn name(&self) -> &str {
        &self.name
    }

    fn op(&self) -> &'static str {
        OP
    }

    fn runs_on(&self, runtime: RuntimeKind) -> bool {
        self.calls != Calls::Update || runtime == RuntimeKind::Host
    }

    fn measure(
        &self,
        runtime: &(dyn Runtime + 'static),
        roof: Option<Peak>,
        args: &BenchArgs,
        screen: &Screen,
    ) -> Result<Row> {
        measure(self, runtime, roof, args, screen)
    }
}

/// A batch and its list as a safetensors file, named as in `ops.md`, without what follows from the list. All f64.
fn file(inputs: &Inputs<f64>, list: &NeighborList<f64>) -> Result<Vec<u8>> {
    let (n_atoms, n_systems, n_edges) = (inputs.n_atoms(), inputs.n_systems(), list.n_edges());
    let floats = |name: &str, shape, values: &[f64]| Tensor::floats(name, shape, values, Dtype::F64);
    let all = [
        floats("positions", vec![n_atoms, 3], &inputs.positions),
        Tensor::indices("system_ptr", &inputs.system_ptr),
        floats("cell", vec![n_systems, 3, 3], &inputs.cell),
        floats("cutoff", vec![1], &[inputs.cutoff]),
        Tensor::indices("row_ptr", &list.row_ptr),
        Tensor::indices("sender", &list.sender),
        Tensor::integers("shift", vec![n_edges, 3], list.shift.as_flattened()),
    ];
    write(&all, None)
}

/// Random atoms that keep some distance, in no order, at the density of water in periodic cubes.
pub fn liquids(n_atoms: usize, n_systems: usize) -> Inputs<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(n_atoms as u64);
    let length = (n_atoms as f64 / DENSITY).cbrt();
    let sites = (1..).find(|n: &usize| n.pow(3) >= n_atoms).unwrap_or(1);
    let spacing = length / sites as f64;
    let mut inputs =
        Inputs { positions: Vec::new(), system_ptr: vec![0], cell: Vec::new(), pbc: Vec::new(), cutoff: CUTOFF };
    for _ in 0..n_systems {
        let mut order: Vec<usize> = (0..sites.pow(3)).collect();
        order.shuffle(&mut rng);
        for site in &order[..n_atoms] {
            for at in [site / sites / sites, site / sites % sites, site % sites] {
                inputs.positions.push((at as f64 + rng.random_range(0.1..0.9)) * spacing);
            }
        }
        inputs.system_ptr.push((inputs.positions.len() / 3) as u32);
        inputs.cell.extend([length, 0.0, 0.0, 0.0, length, 0.0, 0.0, 0.0, length]);
        inputs.pbc.push([true; 3]);
    }
    inputs
}

fn measure(
    case: &Search,
    runtime: &dyn Prepare<CellList>,
    roof: Option<Peak>,
    args: &BenchArgs,
    screen: &Screen,
) -> Result<Row> {
    let inputs = rounded_batch(&liquids(case.n_atoms, case.n_systems), case.dtype);
    let problem = inputs.estimate(&case.name);
    let (_, config) = choose(runtime, &tables(OP, args, screen), &case.variant, case.dtype, &inputs, &problem);
    let prepare = |inputs: &Inputs<f64>| runtime.prepare(&case.variant, case.dtype, inputs, &config);
    let rows = Rows::even(inputs.n_atoms(), CHECKED_ROWS).sampled;
    let oracle = search_rows(&inputs, case.variant.list, case.dtype, rows).map_err(Failure::fault)?;
    let mut launch = prepare(&inputs)?;
    let before = check::<CellList>(launch.as_mut(), &oracle, case.dtype, |_| ())?;
    let outputs = launch.outputs()?;
    let problem = inputs.problem(&case.name, &outputs.row_ptr);
    if let Some(dir) = &args.export {
        export(&dir.join(format!("{}.safetensors", case.name)), &file(&inputs, &outputs)?)?;
    }
    let float = case.dtype.size() as u64;
    drop(outputs);
    // What is written; positions are read besides, and are next to nothing.
    let bytes = problem.n_atoms * 2 * 4 + problem.n_edges * (4 + 12 + 4 + 3 * float);
    let memory = {
        let mut first = prepare(&inputs)?;
        // The list itself is among what becomes resident.
        peak_of(|| first.run())?.map(|peak| peak as f64 / bytes as f64)
    };
    let parts: Vec<Inputs<f64>> = match case.calls {
        Calls::OneByOne => (0..inputs.n_systems()).map(|system| inputs.select(&[system])).collect(),
        Calls::First | Calls::Repeated | Calls::Update => Vec::new(),
    };
    let mut kept = match case.calls {
        Calls::Update => {
            let inputs = Inputs { cutoff: CUTOFF - SKIN, ..inputs.clone() };
            let kept = SkinList::new(inputs, SKIN, case.variant, host_config(&config)?);
            Some(kept.map_err(Failure::input)?)
        }
        _ => None,
    };
    if let Some(kept) = &kept {
        compare::<CellList>(kept.list(), &oracle, case.dtype)?;
    }
    // Moved, and less than half the skin.
    let moved: Vec<f64> = inputs.positions.iter().map(|x| x + 0.1 * SKIN).collect();
    let mut there = false;
    let samples = time(args, || {
        Ok(match case.calls {
            Calls::Update => {
                let Some(kept) = &mut kept else { return Err(Failure::fault("no list was kept")) };
                there = !there;
                let positions = if there { &moved } else { &inputs.positions };
                let start = Instant::now();
                let rebuilt = kept.update(positions, None).map_err(Failure::input)?;
                let sample = start.elapsed();
                if rebuilt > 0 {
                    return Err(Failure::unmet("not timed, an update within the skin built a list"));
                }
                sample
            }
            Calls::Repeated => launch.time()?,
            Calls::First => prepare(&inputs)?.time()?,
            Calls::OneByOne => {
                let mut total = Duration::ZERO;
                for part in &parts {
                    total += prepare(part)?.time()?;
                }
                total
            }
        })
    })?;
    let mut after = check::<CellList>(launch.as_mut(), &oracle, case.dtype, |_| ())?;
    if let Some(kept) = &mut kept {
        // What was timed last need not have been these positions.
        kept.update(&moved, None).map_err(Failure::input)?;
        kept.update(&inputs.positions, None).map_err(Failure::input)?;
        after = after.max(compare::<CellList>(kept.list(), &oracle, case.dtype)?);
    }
    Ok(Row {
        case: case.name.clone(),
        variant: case.variant.id(),
        dtype: case.dtype,
        ns_per_edge: samples.timing.median_ns / problem.n_edges.max(1) as f64,
        problem,
        config,
        samples,
        rates: None,
        floor: Some(Floor { flops: 0, bytes }),
        floor_ns: None,
        bound: None,
        rel_error: before.max(after),
        memory,
    }
    .under(roof))
}
