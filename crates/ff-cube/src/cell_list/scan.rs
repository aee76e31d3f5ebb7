//! Sums of all elements before each, of arrays of any length.
//!
//! Each cube scans one tile and writes its sum; the sums are scanned likewise, level by level, until one tile holds them
//! all, and are then added back. Sums saturate, so that one beyond u32 shows as `u32::MAX`; saturating addition is
//! associative, so that the result is the same for any size of tile.

#![allow(missing_docs, reason = "`#[cube]` expands into items that carry no documentation")]

use cubecl::prelude::*;
use cubecl::server::Handle;

use crate::buffers::{Buffer, cubes, empty};

/// Elements of one unit: one vector.
const WIDTH: usize = 4;

/// Memory for scans of up to so many elements.
pub(super) struct Scan {
    units: usize,
    /// Sums of the tiles of each level.
    sums: Vec<Buffer>,
}

impl Scan {
    pub fn new<R: Runtime>(client: &ComputeClient<R>, most: usize) -> Self {
        let units = (client.properties().hardware.max_units_per_cube as usize).min(256);
        let (mut sums, mut len) = (Vec::new(), most);
        loop {
            len = len.div_ceil(units * WIDTH).max(1);
            sums.push(empty(client, len, size_of::<u32>()));
            if len == 1 {
                return Self { units, sums };
            }
        }
    }

    /// Replaces each of `len` elements by the sum of those before it. The buffer is in whole vectors of four; what lies
    /// beyond `len` is changed too.
    pub fn run<R: Runtime>(&self, client: &ComputeClient<R>, data: &Handle, len: usize) {
        self.level(client, data, len, 0);
    }

    fn level<R: Runtime>(&self, client: &ComputeClient<R>, data: &Handle, len: usize, level: usize) {
        let vectors = len.div_ceil(WIDTH);
        let tiles = vectors.div_ceil(self.units);
        let (sums, n_sums) = &self.sums[level];
        // SAFETY: buffers hold whole vectors, `vectors` of them and `tiles` sums; both are checked in the kernel.
        unsafe {
            scan_tiles::launch_unchecked::<R>(
                client,
                cubes(client, vectors, self.units),
                CubeDim::new_1d(self.units as u32),
                ArrayArg::from_raw_parts(data.clone(), vectors),
                ArrayArg::from_raw_parts(sums.clone(), *n_sums),
                vectors as u32,
                self.units,
            );
        }
        if tiles > 1 {
            self.level(client, sums, tiles, level + 1);
            // SAFETY: as above.
            unsafe {
                add_sums::launch_unchecked::<R>(
                    client,
                    cubes(client, vectors, self.units),
                    CubeDim::new_1d(self.units as u32),
                    ArrayArg::from_raw_parts(data.clone(), vectors),
                    ArrayArg::from_raw_parts(sums.clone(), *n_sums),
                    vectors as u32,
                    self.units,
                );
            }
        }
    }
}

/// a + b, at most `u32::MAX`.
#[cube]
fn saturating(a: u32, b: u32) -> u32 {
    let sum = a + b;
    select(sum < a, u32::MAX, sum)
}

/// Scans each cube's tile of `data`, and writes the tile's sum.
#[cube(launch_unchecked)]
fn scan_tiles(data: &mut Array<Vector<u32, Const<4>>>, sums: &mut Array<u32>, vectors: u32, #[comptime] units: usize) {
    let unit = UNIT_POS as usize;
    let at = ABSOLUTE_POS;
    let inside = at < vectors as usize;
    let mut own = Vector::<u32, Const<4>>::new(0u32);
    if inside {
        own = data[at];
    }
    let ab = saturating(own[0], own[1]);
    let abc = saturating(ab, own[2]);
    let mut before = 0u32;
    let mut sum = saturating(abc, own[3]);
    // Two halves in turn: what is read in one round is what the last one wrote.
    let mut shared = SharedMemory::<u32>::new(comptime!(2 * units));
    let mut from = 0usize;
    shared[unit] = sum;
    sync_cube();
    let mut step = 1usize;
    while step < units {
        if unit >= step {
            sum = saturating(sum, shared[from + unit - step]);
        }
        from = units - from;
        shared[from + unit] = sum;
        sync_cube();
        step *= 2;
    }
    if unit > 0 {
        before = shared[from + unit - 1];
    }
    if inside {
        let mut scanned = Vector::<u32, Const<4>>::new(before);
        scanned[1] = saturating(before, own[0]);
        scanned[2] = saturating(before, ab);
        scanned[3] = saturating(before, abc);
        data[at] = scanned;
        // The last unit of the tile, or of the data.
        if unit == units - 1 || at + 1 == vectors as usize {
            sums[at / units] = sum;
        }
    }
}

/// Adds to each tile the sums of those before it.
#[cube(launch_unchecked)]
fn add_sums(data: &mut Array<Vector<u32, Const<4>>>, sums: &Array<u32>, vectors: u32, #[comptime] units: usize) {
    let at = ABSOLUTE_POS;
    if at < vectors as usize {
        let before = sums[at / units];
        let own = data[at];
        let mut sum = Vector::<u32, Const<4>>::new(before);
        #[unroll]
        for i in 0..4usize {
            sum[i] = saturating(before, own[i]);
        }
        data[at] = sum;
    }
}
