//! Buffers on a device, and what every launcher does with them.

#![allow(missing_docs, reason = "`#[cube]` expands into items that carry no documentation")]

use cubecl::prelude::*;
use cubecl::server::Handle;
use ff_spec::LaunchError;

/// A buffer on a device with its length in elements.
pub type Buffer = (Handle, usize);

/// A failure of the device, in the words of its runtime.
pub(crate) fn fault(error: impl std::fmt::Display) -> LaunchError {
    LaunchError::Runtime(first_lines(error))
}

/// What an error of CubeCL says, without the backtrace that follows.
pub(crate) fn first_lines(error: impl std::fmt::Display) -> String {
    let text = error.to_string();
    let short: Vec<&str> = text.lines().take_while(|line| !line.starts_with("Backtrace")).map(str::trim).collect();
    short.join(": ")
}

pub(crate) fn upload<R: Runtime, T: CubeElement>(client: &ComputeClient<R>, values: &[T]) -> Buffer {
    // A binding of no bytes is refused by every API: four elements stand in, one whole vector.
    let padding: [T; 4] = std::array::from_fn(|_| bytemuck::Zeroable::zeroed());
    let values = if values.is_empty() { &padding[..] } else { values };
    (client.create_from_slice(T::as_bytes(values)), values.len())
}

/// Memory for `len` elements of `size` bytes, in whole vectors of four and one at least; unspecified until written.
pub(crate) fn empty<R: Runtime>(client: &ComputeClient<R>, len: usize, size: usize) -> Buffer {
    let len = len.max(1).next_multiple_of(4);
    (client.empty(len * size), len)
}

/// Enough cubes of `units` units for one unit per element. They spread over X and Y, as X alone may be too short.
pub(crate) fn cubes<R: Runtime>(client: &ComputeClient<R>, elements: usize, units: usize) -> CubeCount {
    let cubes = elements.div_ceil(units).max(1);
    let x = cubes.min(client.properties().hardware.max_cube_count.0 as usize);
    CubeCount::Static(x as u32, cubes.div_ceil(x) as u32, 1)
}

/// Writes `value` to each of the buffer's first `len` words of 32 bits.
pub(crate) fn fill<R: Runtime>(client: &ComputeClient<R>, handle: &Handle, len: usize, value: u32) {
    const UNITS: usize = 256;
    // SAFETY: the caller's buffer holds `len` words, and every index is checked against it in the kernel.
    unsafe {
        fill_words::launch_unchecked::<R>(
            client,
            cubes(client, len, UNITS),
            CubeDim::new_1d(UNITS as u32),
            ArrayArg::from_raw_parts(handle.clone(), len),
            len as u32,
            value,
        );
    }
}

#[cube(launch_unchecked)]
fn fill_words(out: &mut Array<u32>, len: u32, value: u32) {
    if ABSOLUTE_POS < len as usize {
        out[ABSOLUTE_POS] = value;
    }
}
