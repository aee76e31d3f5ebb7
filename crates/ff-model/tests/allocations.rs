//! What a model allocates once it has seen its systems: nothing but what `gemm` packs the matrices of a product into.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use ff_model::config::Kind;
use ff_model::{HostModel, Model, Neighbors, Wanted};
use ff_structure::{Structure, builtin};

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, which counts what every thread asks it for.
struct Counting;

// SAFETY: calls go to the system's allocator as they are.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Allocations of the last of some evaluations of these structures, which move a little between them, and the most that its matrix
/// products make: one for either matrix of a product, of which there is one for each layer and block of atoms, forward and backward.
fn allocations(path: &str, structures: &[Structure], threads: usize) -> (usize, usize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    let model = Model::load(path).expect("a model");
    let (layers, head) = (model.config().layers, model.config().head.layers.len() - 1);
    let products = match model.config().kind {
        Kind::Painn => 5 * layers + 3 * layers + 2 * (layers - 1) + 2 * head,
        Kind::Schnet => 3 * layers + 2 * layers + (layers - 1) + 2 * head,
    };
    let atoms: usize = structures.iter().map(Structure::n_atoms).sum();
    let blocks = atoms.div_ceil(LEAST_ROWS).min(threads * atoms.div_ceil(MOST_ROWS));
    let model = HostModel::<f32>::new(&model).expect("kernels");
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

/// One test: what others do beside it would be counted.
#[test]
fn evaluations_allocate_nothing_of_their_own_once_they_have_seen_their_systems() {
    let of = |name: &str| builtin(name).expect("a built-in problem").remove(0);
    for model in MODELS {
        for threads in [1, 2] {
            for structure in [of("c6h6"), of("water-64")] {
                let (found, products) = allocations(model, std::slice::from_ref(&structure), threads);
                assert!(found <= products, "{model}, {}: {found} for {products} products", structure.name);
            }
        }
        // Of several groups each takes the memory that is free: on one thread always the same.
        let batch: Vec<Structure> = (0..20).map(|_| of("c6h6")).collect();
        let (found, products) = allocations(model, &batch, 1);
        assert!(found <= products, "{model}, a batch: {found} for {products} products");
    }
}
