//! The kernels and the pieces they share.

#![allow(missing_docs, reason = "`#[cube]` expands into items that carry no documentation")]

use cubecl::prelude::*;

// Every kernel names its element type by this one, so that the pieces are compiled once for all of them.
cubecl::define_scalar!(pub Real);

/// Elements of a symmetric matrix: xx, yy, zz, yz, xz, xy.
pub const SYMMETRIC: usize = 6;

/// Where element `at` of a 3 × 3 matrix is among those of a symmetric one.
#[cube]
fn symmetric_at(at: usize) -> usize {
    let (a, b) = (at / 3, at % 3);
    select(a == b, a, 6 - a - b)
}

/// The row of CSR offsets that holds an index: the last that starts at or before it.
#[cube]
fn owner(offsets: &Array<u32>, rows: u32, index: u32) -> u32 {
    let mut low = 0u32;
    let mut high = rows;
    while low + 1 < high {
        let middle = (low + high) / 2;
        if offsets[middle as usize] <= index {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

/// Σ of received edges − Σ of sent edges.
#[cube(launch_unchecked, explicit_define)]
pub fn gather_forces<F: Float>(
    row_ptr: &Array<u32>,
    sender_ptr: &Array<u32>,
    transpose: &Array<u32>,
    values: &Array<F>,
    forces: &mut Array<F>,
    n_atoms: u32,
    #[define(F)] _real: StorageType,
) {
    let atom = ABSOLUTE_POS;
    if atom < n_atoms as usize {
        let mut x = F::new(0.0);
        let mut y = F::new(0.0);
        let mut z = F::new(0.0);
        for edge in row_ptr[atom]..row_ptr[atom + 1] {
            let at = 3 * edge as usize;
            x += values[at];
            y += values[at + 1];
            z += values[at + 2];
        }
        for slot in sender_ptr[atom]..sender_ptr[atom + 1] {
            let at = 3 * transpose[slot as usize] as usize;
            x -= values[at];
            y -= values[at + 1];
            z -= values[at + 2];
        }
        forces[3 * atom] = x;
        forces[3 * atom + 1] = y;
        forces[3 * atom + 2] = z;
    }
}

/// Adds each edge to its receiver and takes it from its sender.
///
/// A unit without an edge adds zero: Mesa's software Vulkan (22.3) loses the atomics of a cube one of whose planes is idle.
#[cube(launch_unchecked, explicit_define)]
pub fn scatter_forces<F: Float>(
    row_ptr: &Array<u32>,
    sender: &Array<u32>,
    values: &Array<F>,
    forces: &mut Array<Atomic<F>>,
    n_atoms: u32,
    n_edges: u32,
    #[define(F)] _real: StorageType,
) {
    // The arrays may go on behind the end of the list.
    let inside = ABSOLUTE_POS < min(row_ptr[n_atoms as usize], n_edges) as usize;
    let edge = select(inside, ABSOLUTE_POS, 0);
    let receiver = 3 * owner(row_ptr, n_atoms, edge as u32) as usize;
    let sender = 3 * sender[edge] as usize;
    let zero = F::new(0.0);
    #[unroll]
    for axis in 0..3usize {
        let value = select(inside, values[3 * edge + axis], zero);
        forces[receiver + axis].fetch_add(value);
        forces[sender + axis].fetch_add(zero - value);
    }
}

/// Adds sym(a ⊗ b) of an edge.
#[cube]
fn add_product<F: Float>(sums: &mut Array<F>, a: &Array<F>, b: &Array<F>, edge: usize) {
    let half = F::new(0.5);
    let ax = a[3 * edge];
    let ay = a[3 * edge + 1];
    let az = a[3 * edge + 2];
    let bx = b[3 * edge];
    let by = b[3 * edge + 1];
    let bz = b[3 * edge + 2];
    sums[0] += ax * bx;
    sums[1] += ay * by;
    sums[2] += az * bz;
    sums[3] += half * (ay * bz + az * by);
    sums[4] += half * (ax * bz + az * bx);
    sums[5] += half * (ax * by + ay * bx);
}

/// What is summed into the strain: sym(a ⊗ b), and sym(c ⊗ d) where there are two products; all are [n_edges, 3].
#[derive(CubeLaunch, CubeType)]
pub struct Products<F: Float> {
    pub a: Array<F>,
    pub b: Array<F>,
    pub c: Array<F>,
    pub d: Array<F>,
}

/// The sum over one part of a system's edges: element k is at k · `units` of what is returned.
#[cube]
fn part_sum<F: Float>(
    row_ptr: &Array<u32>,
    system_ptr: &Array<u32>,
    products: &Products<F>,
    system: usize,
    part: usize,
    parts: u32,
    #[comptime] two: bool,
    #[comptime] units: usize,
) -> SharedMemory<F> {
    let unit = UNIT_POS as usize;
    let first = row_ptr[system_ptr[system] as usize] as usize;
    let end = row_ptr[system_ptr[system + 1] as usize] as usize;
    let parts = parts as usize;
    // Enough for all edges; the last parts may be short or empty.
    let length = (end - first) / parts + 1;
    let start = min(first + part * length, end);
    let stop = min(start + length, end);
    let mut sums = Array::<F>::new(SYMMETRIC);
    #[unroll]
    for k in 0..SYMMETRIC {
        sums[k] = F::new(0.0);
    }
    for edge in range_stepped(start + unit, stop, units) {
        add_product::<F>(&mut sums, &products.a, &products.b, edge);
        if comptime!(two) {
            add_product::<F>(&mut sums, &products.c, &products.d, edge);
        }
    }
    let mut shared = SharedMemory::<F>::new(comptime!(SYMMETRIC * units));
    #[unroll]
    for k in 0..SYMMETRIC {
        shared[k * units + unit] = sums[k];
    }
    sync_cube();
    let mut step = comptime!(units / 2).runtime();
    while step > 0 {
        if unit < step {
            #[unroll]
            for k in 0..SYMMETRIC {
                let other = shared[k * units + unit + step];
                shared[k * units + unit] += other;
            }
        }
        sync_cube();
        step /= 2;
    }
    shared
}

/// The cube of this unit over the whole launch; cubes spread over X and Y, as X alone may be too short.
#[cube]
fn cube_index() -> usize {
    CUBE_POS_Y as usize * CUBE_COUNT_X as usize + CUBE_POS_X as usize
}

/// Writes the sums of every part, [n_systems, parts, 6].
#[cube(launch_unchecked, explicit_define)]
pub fn strain_parts<F: Float>(
    row_ptr: &Array<u32>,
    system_ptr: &Array<u32>,
    products: &Products<F>,
    sums: &mut Array<F>,
    n_systems: u32,
    parts: u32,
    #[comptime] two: bool,
    #[comptime] units: usize,
    #[define(F)] _real: StorageType,
) {
    let cube = cube_index();
    let (system, part) = (cube / parts as usize, cube % parts as usize);
    if system < n_systems as usize {
        let sum = part_sum::<F>(row_ptr, system_ptr, products, system, part, parts, two, units);
        let unit = UNIT_POS as usize;
        if unit < SYMMETRIC {
            sums[SYMMETRIC * cube + unit] = sum[unit * units];
        }
    }
}

/// Adds up the parts of every element of every system, in their order.
#[cube(launch_unchecked, explicit_define)]
pub fn sum_parts<F: Float>(
    sums: &Array<F>,
    strain: &mut Array<F>,
    n_systems: u32,
    parts: u32,
    #[define(F)] _real: StorageType,
) {
    let at = ABSOLUTE_POS;
    if at < 9 * n_systems as usize {
        let first = at / 9 * parts as usize;
        let mut sum = F::new(0.0);
        for part in 0..parts as usize {
            sum += sums[SYMMETRIC * (first + part) + symmetric_at(at % 9)];
        }
        strain[at] = sum;
    }
}

/// Adds the sums of every part to its system. Units beyond the nine elements add zero, as in [`scatter_forces`].
#[cube(launch_unchecked, explicit_define)]
pub fn add_strain_parts<F: Float>(
    row_ptr: &Array<u32>,
    system_ptr: &Array<u32>,
    products: &Products<F>,
    strain: &mut Array<Atomic<F>>,
    n_systems: u32,
    parts: u32,
    #[comptime] two: bool,
    #[comptime] units: usize,
    #[define(F)] _real: StorageType,
) {
    let cube = cube_index();
    let (system, part) = (cube / parts as usize, cube % parts as usize);
    if system < n_systems as usize {
        let sum = part_sum::<F>(row_ptr, system_ptr, products, system, part, parts, two, units);
        let unit = UNIT_POS as usize;
        let value = select(unit < 9, sum[symmetric_at(unit % 9) * units], F::new(0.0));
        strain[9 * system + unit % 9].fetch_add(value);
    }
}

/// Row `a` of sym(matrix) of a system, times the vector of an edge.
#[cube]
fn row_times<F: Float>(matrices: &Array<F>, system: usize, #[comptime] a: usize, values: &Array<F>, edge: usize) -> F {
    let first = 9 * system;
    let mut sum = F::new(0.0);
    #[unroll]
    for b in 0..3usize {
        let s = F::new(0.5) * (matrices[first + comptime!(3 * a) + b] + matrices[first + 3 * b + a]);
        sum += s * values[3 * edge + b];
    }
    sum
}

/// s · `vec` and s · `grad` of every edge into the gradients in `edge_grad` and in `edge_vec`; F̄_i − F̄_j is added to the former
/// where `with_forces`.
#[cube(launch_unchecked, explicit_define)]
pub fn spread<F: Float>(
    row_ptr: &Array<u32>,
    sender: &Array<u32>,
    system_ptr: &Array<u32>,
    vec: &Array<F>,
    grad: &Array<F>,
    forces: &Array<F>,
    strain: &Array<F>,
    of_vec: &mut Array<F>,
    of_grad: &mut Array<F>,
    n_atoms: u32,
    n_systems: u32,
    n_edges: u32,
    #[comptime] with_forces: bool,
    #[define(F)] _real: StorageType,
) {
    let edge = ABSOLUTE_POS;
    if edge < n_edges as usize && edge >= row_ptr[n_atoms as usize] as usize {
        // Behind the end of a list with room for more.
        #[unroll]
        for axis in 0..3usize {
            of_vec[3 * edge + axis] = F::new(0.0);
            of_grad[3 * edge + axis] = F::new(0.0);
        }
    } else if edge < n_edges as usize {
        let receiver = owner(row_ptr, n_atoms, edge as u32);
        let system = owner(system_ptr, n_systems, receiver) as usize;
        #[unroll]
        for axis in 0..3usize {
            let mut sum = row_times::<F>(strain, system, axis, vec, edge);
            if comptime!(with_forces) {
                sum += forces[3 * receiver as usize + axis] - forces[3 * sender[edge] as usize + axis];
            }
            of_grad[3 * edge + axis] = sum;
            of_vec[3 * edge + axis] = row_times::<F>(strain, system, axis, grad, edge);
        }
    }
}
