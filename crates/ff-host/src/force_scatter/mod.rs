//! The host kernels of `force_scatter`.
//!
//! Two pieces make all orders: [`sums`], of one gradient and of one or two products per edge into atoms and systems, and
//! [`spread`], of cotangents over the edges. Both compute in f64 and round once, since memory is what they wait for.

use std::ops::Range;

use ff_spec::force_scatter::{DoubleGradients, Gradients, Outputs, Reduction};
use rayon::prelude::*;

use crate::Element;
use crate::pool::Pooled;
use ff_spec::SenderList;

/// The source of these kernels.
pub const SOURCE: &str = include_str!("mod.rs");

/// Launch parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HostConfig {
    /// Edges of one task. The sums of `gather` depend on it in their last bits, and on no number of threads.
    pub edges_per_task: usize,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self { edges_per_task: 4096 }
    }
}

/// Borrowed inputs of one call; shapes as in [`ff_spec::force_scatter::Inputs`], already checked.
pub struct Call<'a, T> {
    /// [n_atoms + 1].
    pub row_ptr: &'a [u32],
    /// [n_edges].
    pub sender: &'a [u32],
    /// [n_edges, 3], Å.
    pub edge_vec: &'a [T],
    /// [n_edges, 3], eV/Å.
    pub edge_grad: &'a [T],
    /// [n_systems + 1].
    pub system_ptr: &'a [u32],
    /// The same list by sender; of it `gather` reads `sender_ptr` and `transpose`, `atomic` nothing.
    pub senders: &'a SenderList,
}

/// ∂L/∂outputs.
pub struct Cotangents<'a, T> {
    /// [n_atoms, 3].
    pub forces: &'a [T],
    /// [n_systems, 3, 3].
    pub strain: &'a [T],
}

/// A direction in the space of inputs.
pub struct Tangent<'a, T> {
    /// [n_edges, 3].
    pub edge_vec: &'a [T],
    /// [n_edges, 3].
    pub edge_grad: &'a [T],
}

/// An element type for which this crate has compiled every kernel.
pub trait Compiled: Element {
    /// Forces and strain derivatives.
    fn forward(call: &Call<'_, Self>, reduction: Reduction, config: &HostConfig, out: &mut Outputs<Self>);
    /// Gradients in edge vectors and edge gradients, the same for every reduction.
    fn backward(call: &Call<'_, Self>, grad: &Cotangents<'_, Self>, config: &HostConfig, out: &mut Gradients<Self>);
    /// Gradients of the first backward in the cotangents and in the inputs.
    fn double_backward(
        call: &Call<'_, Self>,
        grad: &Cotangents<'_, Self>,
        tangent: &Tangent<'_, Self>,
        reduction: Reduction,
        config: &HostConfig,
        out: &mut DoubleGradients<Self>,
    );
}

macro_rules! compiled {
    ($($t:ident),*) => {$(
        impl Compiled for $t {
            #[inline(never)]
            fn forward(call: &Call<'_, Self>, reduction: Reduction, config: &HostConfig, out: &mut Outputs<Self>) {
                sums(call, call.edge_grad, &[(call.edge_vec, call.edge_grad)], reduction, config, out);
            }

            #[inline(never)]
            fn backward(
                call: &Call<'_, Self>,
                grad: &Cotangents<'_, Self>,
                config: &HostConfig,
                out: &mut Gradients<Self>,
            ) {
                spread(call, (call.edge_vec, call.edge_grad), Some(grad.forces), grad.strain, config, out);
            }

            #[inline(never)]
            fn double_backward(
                call: &Call<'_, Self>,
                grad: &Cotangents<'_, Self>,
                tangent: &Tangent<'_, Self>,
                reduction: Reduction,
                config: &HostConfig,
                out: &mut DoubleGradients<Self>,
            ) {
                let products = [(call.edge_vec, tangent.edge_grad), (tangent.edge_vec, call.edge_grad)];
                sums(call, tangent.edge_grad, &products, reduction, config, &mut out.grad);
                spread(call, (tangent.edge_vec, tangent.edge_grad), None, grad.strain, config, &mut out.gradients);
            }
        }
    )*};
}
compiled!(f32, f64);

/// xx, yy, zz, yz, xz, xy of a symmetric matrix.
type Symmetric = [f64; 6];

/// Σ values of received edges − Σ values of sent edges into `out.forces`, and Σ sym(a ⊗ b) over the edges of a system, and
/// over the `products` (a, b), into `out.strain`.
fn sums<T: Element>(
    call: &Call<'_, T>,
    values: &[T],
    products: &[(&[T], &[T])],
    reduction: Reduction,
    config: &HostConfig,
    out: &mut Outputs<T>,
) {
    match reduction {
        Reduction::Gather => gather(call, values, products, config, out),
        Reduction::Atomic => atomic(call, values, products, config, out),
    }
}

/// What `gather` keeps from call to call.
#[derive(Default)]
struct Memory {
    /// Where the atoms of each task begin, and where those of the last end.
    cuts: Vec<usize>,
    /// What tasks add to the strain of their systems, that of `task` to `system` at `task + system`: tasks of consecutive atoms
    /// share no place.
    partials: Vec<(usize, Symmetric)>,
    /// [n_systems].
    sums: Vec<Symmetric>,
}

fn gather<T: Element>(
    call: &Call<'_, T>,
    values: &[T],
    products: &[(&[T], &[T])],
    config: &HostConfig,
    out: &mut Outputs<T>,
) {
    let mut memory = Pooled::<Memory>::take([0; 8], Memory::default);
    let Memory { cuts, partials, sums } = &mut *memory;
    cut(call, config, cuts);
    let (tasks, n_systems) = (cuts.len() - 1, call.system_ptr.len() - 1);
    partials.clear();
    partials.resize(tasks + n_systems, (0, [0.0; 6]));
    Gather { call, values, products, cuts }.run(0..tasks, &mut out.forces, partials);
    sums.clear();
    sums.resize(n_systems, [0.0; 6]);
    for (system, partial) in &*partials {
        if let Some(sum) = sums.get_mut(*system) {
            add(sum, *partial);
        }
    }
    for (strain, sum) in out.strain.chunks_exact_mut(9).zip(&*sums) {
        store(strain, full(*sum).as_flattened());
    }
}

/// The tasks of one [`gather`].
struct Gather<'a, T> {
    call: &'a Call<'a, T>,
    values: &'a [T],
    products: &'a [(&'a [T], &'a [T])],
    cuts: &'a [usize],
}

impl<T: Element> Gather<'_, T> {
    /// Where the first partial of a task is.
    fn place(&self, task: usize) -> usize {
        task + owner(self.call.system_ptr, self.cuts[task])
    }

    /// Runs tasks on the forces of their atoms and their partials, which begin with the first of theirs.
    fn run(&self, tasks: Range<usize>, forces: &mut [T], partials: &mut [(usize, Symmetric)]) {
        if tasks.len() > 1 {
            let half = tasks.start + tasks.len() / 2;
            let (of_first, of_second) = forces.split_at_mut(3 * (self.cuts[half] - self.cuts[tasks.start]));
            let (first, second) = partials.split_at_mut(self.place(half) - self.place(tasks.start));
            let run =
                (|| self.run(tasks.start..half, of_first, first), || self.run(half..tasks.end, of_second, second));
            rayon::join(run.0, run.1);
        } else if !tasks.is_empty() {
            self.task(tasks.start, forces, partials);
        }
    }

    fn task(&self, task: usize, forces: &mut [T], to: &mut [(usize, Symmetric)]) {
        let Self { call, values, products, cuts } = self;
        let atoms = cuts[task]..cuts[task + 1];
        let SenderList { sender_ptr, transpose, .. } = call.senders;
        for (atom, force) in atoms.clone().zip(forces.chunks_exact_mut(3)) {
            let mut sum = [0.0; 3];
            row(call.row_ptr, atom).for_each(|edge| add(&mut sum, at(values, edge)));
            for edge in &transpose[row(sender_ptr, atom)] {
                add(&mut sum, at(values, *edge as usize).map(|x| -x));
            }
            store(force, sum);
        }
        let first = owner(call.system_ptr, atoms.start);
        partials(call, atoms.start, row_range(call.row_ptr, atoms), products, |system, sum| {
            to[system - first] = (system, sum);
        });
    }
}

fn atomic<T: Element>(
    call: &Call<'_, T>,
    values: &[T],
    products: &[(&[T], &[T])],
    config: &HostConfig,
    out: &mut Outputs<T>,
) {
    out.forces.fill(T::default());
    out.strain.fill(T::default());
    let n_edges = call.sender.len();
    if n_edges == 0 {
        return;
    }
    let (forces, strain) = (T::as_cells(&mut out.forces), T::as_cells(&mut out.strain));
    let add_all = |cells: &[T::Cell], sums: &[f64]| {
        cells.iter().zip(sums).for_each(|(cell, x)| T::atomic_add(cell, T::from_f64(*x)));
    };
    let run = |task: usize| {
        let edges = task * config.edges_per_task..n_edges.min((task + 1) * config.edges_per_task);
        let first = owner(call.row_ptr, edges.start);
        let mut receiver = first;
        let mut sum = [0.0; 3];
        for edge in edges.clone() {
            while edge >= call.row_ptr[receiver + 1] as usize {
                add_all(&forces[3 * receiver..3 * receiver + 3], &sum);
                (receiver, sum) = (receiver + 1, [0.0; 3]);
            }
            add(&mut sum, at(values, edge));
            let sender = call.sender[edge] as usize;
            add_all(&forces[3 * sender..3 * sender + 3], &at(values, edge).map(|x| -x));
        }
        add_all(&forces[3 * receiver..3 * receiver + 3], &sum);
        partials(call, first, edges, products, |system, sum| {
            add_all(&strain[9 * system..9 * system + 9], full(sum).as_flattened());
        });
    };
    match n_edges.div_ceil(config.edges_per_task) {
        1 => run(0),
        tasks => (0..tasks).into_par_iter().for_each(run),
    }
}

/// Gives Σ sym(a ⊗ b) of consecutive edges to `to`, by system; `first` is an atom at or before the receiver of the first of them.
fn partials<T: Element>(
    call: &Call<'_, T>,
    first: usize,
    edges: Range<usize>,
    products: &[(&[T], &[T])],
    mut to: impl FnMut(usize, Symmetric),
) {
    let mut start = edges.start;
    if edges.is_empty() {
        return;
    }
    for system in owner(call.system_ptr, first)..call.system_ptr.len() - 1 {
        let end = edges.end.min(call.row_ptr[call.system_ptr[system + 1] as usize] as usize);
        if start < end {
            let mut sum = [0.0; 6];
            for (a, b) in products {
                (start..end).for_each(|edge| add(&mut sum, symmetric_product(at(a, edge), at(b, edge))));
            }
            to(system, sum);
            start = end;
        }
        if start == edges.end {
            break;
        }
    }
}

/// `vec` and `grad` times s into the gradients in `edge_grad` and in `edge_vec`; F̄_i − F̄_j is added to the former where there
/// is an F̄.
fn spread<T: Element>(
    call: &Call<'_, T>,
    (vec, grad): (&[T], &[T]),
    forces: Option<&[T]>,
    strain: &[T],
    config: &HostConfig,
    out: &mut Gradients<T>,
) {
    let tasks = rows(call, config);
    let lengths = || tasks.iter().map(|atoms| 3 * row_range(call.row_ptr, atoms.clone()).len());
    let (of_vec, of_grad) = (split(&mut out.edge_vec, lengths()), split(&mut out.edge_grad, lengths()));
    let run = |((atoms, of_vec), of_grad): ((Range<usize>, &mut [T]), &mut [T])| {
        let first = call.row_ptr[atoms.start] as usize;
        let mut system = owner(call.system_ptr, atoms.start);
        let mut s = symmetric(strain, system);
        for receiver in atoms {
            if receiver >= call.system_ptr[system + 1] as usize {
                system = owner(call.system_ptr, receiver);
                s = symmetric(strain, system);
            }
            for edge in row(call.row_ptr, receiver) {
                let place = 3 * (edge - first);
                let mut sum = times(&s, at(vec, edge));
                if let Some(forces) = forces {
                    add(&mut sum, at(forces, receiver));
                    add(&mut sum, at(forces, call.sender[edge] as usize).map(|x| -x));
                }
                store(&mut of_grad[place..place + 3], sum);
                store(&mut of_vec[place..place + 3], times(&s, at(grad, edge)));
            }
        }
    };
    let tasks: Vec<_> = tasks.iter().cloned().zip(of_vec).zip(of_grad).collect();
    match tasks.len() {
        1 => tasks.into_iter().for_each(run),
        _ => tasks.into_par_iter().for_each(run),
    }
}

/// Cuts atoms into tasks of about `edges_per_task` edges in all or of one atom, none without atoms: where each begins, and where
/// the last ends.
fn cut<T>(call: &Call<'_, T>, config: &HostConfig, cuts: &mut Vec<usize>) {
    let n_atoms = call.row_ptr.len() - 1;
    cuts.clear();
    cuts.push(0);
    let mut first = 0;
    for atom in 0..n_atoms {
        // An atom without edges costs its outputs: as much as an edge or so.
        let cost = row_range(call.row_ptr, first..atom + 1).len() + atom - first;
        if cost >= config.edges_per_task || atom + 1 == n_atoms {
            first = atom + 1;
            cuts.push(first);
        }
    }
}

/// The tasks of [`cut`].
fn rows<T>(call: &Call<'_, T>, config: &HostConfig) -> Vec<Range<usize>> {
    let mut cuts = Vec::new();
    cut(call, config, &mut cuts);
    cuts.windows(2).map(|ends| ends[0]..ends[1]).collect()
}

/// The row of CSR offsets that holds an index: the last that starts at or before it.
fn owner(offsets: &[u32], index: usize) -> usize {
    offsets.partition_point(|start| *start as usize <= index) - 1
}

fn row(offsets: &[u32], at: usize) -> Range<usize> {
    row_range(offsets, at..at + 1)
}

fn row_range(offsets: &[u32], rows: Range<usize>) -> Range<usize> {
    offsets[rows.start] as usize..offsets[rows.end] as usize
}

/// Consecutive parts of these lengths.
fn split<T>(mut rest: &mut [T], lengths: impl Iterator<Item = usize>) -> Vec<&mut [T]> {
    lengths.map(|length| rest.split_off_mut(..length).unwrap_or_default()).collect()
}

fn at<T: Element>(values: &[T], index: usize) -> [f64; 3] {
    let values = &values[3 * index..3 * index + 3];
    [values[0].to_f64(), values[1].to_f64(), values[2].to_f64()]
}

fn store<T: Element>(to: &mut [T], values: impl AsRef<[f64]>) {
    to.iter_mut().zip(values.as_ref()).for_each(|(to, x)| *to = T::from_f64(*x));
}

fn add<const N: usize>(sum: &mut [f64; N], x: [f64; N]) {
    sum.iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
}

fn symmetric_product([ax, ay, az]: [f64; 3], [bx, by, bz]: [f64; 3]) -> Symmetric {
    let half = |x: f64, y: f64| 0.5 * (x + y);
    [ax * bx, ay * by, az * bz, half(ay * bz, az * by), half(ax * bz, az * bx), half(ax * by, ay * bx)]
}

fn full([xx, yy, zz, yz, xz, xy]: Symmetric) -> [[f64; 3]; 3] {
    [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]
}

/// sym of the 3 × 3 matrix of a system.
fn symmetric<T: Element>(matrices: &[T], system: usize) -> [[f64; 3]; 3] {
    let m = |a: usize, b: usize| matrices[9 * system + 3 * a + b].to_f64();
    [0, 1, 2].map(|a| [0, 1, 2].map(|b| 0.5 * (m(a, b) + m(b, a))))
}

fn times(matrix: &[[f64; 3]; 3], x: [f64; 3]) -> [f64; 3] {
    matrix.map(|row| row[0] * x[0] + row[1] * x[1] + row[2] * x[2])
}
