//! What a model allocates: no more bytes than `batch` reckons with, and once it has seen its systems nothing but what `gemm` packs
//! the matrices of a product into.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use ff_model::batch::{memory, memory_of_thread};
use ff_model::config::{Config, Head, Kind};
use ff_model::weights::Weights;
use ff_model::{HostModel, Model, Neighbors, Wanted};
use ff_spec::{Dtype, Precision};
use ff_structure::{Structure, builtin, edges};

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

/// Bytes that are in use, and the most that were.
static BYTES: AtomicUsize = AtomicUsize::new(0);
static MOST_BYTES: AtomicUsize = AtomicUsize::new(0);

fn taken(bytes: usize) {
    MOST_BYTES.fetch_max(BYTES.fetch_add(bytes, Ordering::Relaxed) + bytes, Ordering::Relaxed);
}

/// The system's allocator, which counts what every thread asks it for.
struct Counting;

// SAFETY: calls go to the system's allocator as they are.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        taken(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // Old and new may be there at once.
        taken(size);
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Allocations of the last of some evaluations of these structures, which move a little between them, and the most that its matrix
/// products make: one for either matrix of a product, of which there is one for each layer and block of atoms, forward and backward.
fn allocations(path: &str, precision: Precision, structures: &[Structure], threads: usize) -> (usize, usize) {
    let model = load(path);
    let (layers, head) = (model.config().layers, model.config().head.layers.len() - 1);
    let products = match model.config().kind {
        Kind::Painn => 5 * layers + 3 * layers + 2 * (layers - 1) + 2 * head,
        Kind::Schnet => 3 * layers + 2 * layers + (layers - 1) + 2 * head,
    };
    let atoms: usize = structures.iter().map(Structure::n_atoms).sum();
    let blocks = atoms.div_ceil(LEAST_ROWS).min(threads * atoms.div_ceil(MOST_ROWS));
    let model = HostModel::<f32>::with_precision(&model, precision, None).expect("kernels");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
    pool.install(|| {
        let (mut neighbors, mut predictions) = (Neighbors::new(0.5).expect("a skin"), Vec::new());
        let mut structures = structures.to_vec();
        // Which thread takes which task is chance: each has to have seen each once.
        let mut before = 0;
        for step in 0..200 {
            for position in structures.iter_mut().flat_map(|structure| &mut structure.positions) {
                position[step % 3] += 1e-3 * f64::from(step as u32 % 2);
            }
            before = ALLOCATIONS.load(Ordering::Relaxed);
            model.predict_with(&structures, Wanted::FORCES, &mut neighbors, &mut predictions).expect("predictions");
        }
        assert_eq!(neighbors.rebuilds(), 0);
        assert!(predictions.iter().all(|prediction| prediction.energy.is_finite()));
        (ALLOCATIONS.load(Ordering::Relaxed) - before, 2 * blocks * products)
    })
}

/// Rows of a block, at least and at most.
const LEAST_ROWS: usize = 6;
const MOST_ROWS: usize = 36;

const MODELS: [&str; 2] = ["models/ethanol-painn-small.safetensors", "tests/golden/models/schnet_bessel.safetensors"];

/// The most bytes that an evaluation of new structures has in use beside what was there, and what `batch` reckons with: for atoms and
/// edges, and for threads.
fn bytes(model: &Model, structures: &[Structure]) -> (u64, [u64; 2]) {
    let (config, dtype) = (model.config(), Dtype::F32);
    let host = HostModel::<f32>::new(model).expect("kernels");
    let found = edges(structures, config.cutoff).expect("lists");
    let systems = memory(config, dtype).at(found.n_atoms() as u64, found.sender.len() as u64);
    drop(found);
    let before = BYTES.load(Ordering::Relaxed);
    MOST_BYTES.store(before, Ordering::Relaxed);
    host.predict(structures, Wanted::FORCES).expect("predictions");
    let threads = rayon::current_num_threads() as u64 * memory_of_thread(config, dtype);
    ((MOST_BYTES.load(Ordering::Relaxed) - before) as u64, [systems, threads])
}

fn load(path: &str) -> Model {
    Model::load(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)).expect("a model")
}

/// One test: what others do beside it would be counted.
#[test]
fn evaluations_allocate_what_is_reckoned_with_and_then_nothing_of_their_own() {
    let of = |name: &str| builtin(name).expect("a built-in problem").remove(0);
    let wide = Config { features: 128, filters: 128, ..load(MODELS[0]).config().clone() };
    let wide = Config { head: Head { layers: vec![128, 64, 1], ..wide.head.clone() }, ..wide };
    let wide = Model::new(wide.clone(), Weights::random(&wide, 10, 0));
    for (name, model) in [("F = 128", wide), (MODELS[0], load(MODELS[0])), (MODELS[1], load(MODELS[1]))] {
        for structures in [vec![of("c6h6")], vec![of("water-64")], vec![of("water-512")], vec![of("c6h6"); 100]] {
            let (found, [systems, threads]) = bytes(&model, &structures);
            println!(
                "{name}, {} × {}: {found} bytes, {systems} + {threads} reckoned with",
                structures.len(),
                structures[0].name
            );
            assert!(found <= systems + threads, "{name}, {}: {found} of {systems} + {threads}", structures[0].name);
        }
    }
    // What is stored in bf16 goes the way of f16.
    let precisions = [Precision::F32, Precision::F16, Precision::Int8];
    for (model, precision) in MODELS.into_iter().flat_map(|model| precisions.map(|precision| (model, precision))) {
        for threads in [1, 2] {
            for structure in [of("c6h6"), of("water-64")] {
                let (found, products) = allocations(model, precision, std::slice::from_ref(&structure), threads);
                let name = &structure.name;
                assert!(found <= products, "{model} in {precision}, {name}: {found} for {products} products");
            }
        }
        // Of several groups each takes the memory that is free: on one thread always the same.
        let batch: Vec<Structure> = (0..20).map(|_| of("c6h6")).collect();
        let (found, products) = allocations(model, precision, &batch, 1);
        assert!(found <= products, "{model} in {precision}, a batch: {found} for {products} products");
    }
}
