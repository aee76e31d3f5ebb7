//! Buffers on a device, and what every launcher does with them.

#![allow(missing_docs, reason = "`#[cube]` expands into items that carry no documentation")]

use std::time::Duration;

use cubecl::prelude::*;
use cubecl::profile::TimingMethod;
use cubecl::server::Handle;
use ff_spec::LaunchError;

/// A buffer on a device with its length in elements.
pub type Buffer = (Handle, usize);

/// How long one submission takes: by the device's clock, or where there is none by the host's, as the mean of enough
/// submissions in a row that launching the first and waiting for the last weigh little.
pub fn timed<R: Runtime>(
    client: &ComputeClient<R>,
    name: &str,
    submit: impl Fn() + Send + Sync,
) -> Result<Duration, LaunchError> {
    const LONG: Duration = Duration::from_millis(1);
    const MOST: u32 = 50;
    let time = |count: u32| -> Result<Duration, LaunchError> {
        let repeat = || (0..count).for_each(|_| submit());
        let (_, duration) = client.profile(repeat, name).map_err(fault)?;
        Ok(cubecl::future::block_on(duration.resolve()).duration())
    };
    let once = time(1)?;
    if client.properties().timing_method == TimingMethod::Device || once >= LONG {
        return Ok(once);
    }
    let count = (LONG.as_nanos() / once.as_nanos().max(1) + 1).min(u128::from(MOST)) as u32;
    Ok(time(count)? / count)
}

/// A failure of the device, in the words of its runtime.
pub fn fault(error: impl std::fmt::Display) -> LaunchError {
    LaunchError::Runtime(first_lines(error))
}

/// What an error of CubeCL says, without the backtrace that follows.
pub fn first_lines(error: impl std::fmt::Display) -> String {
    let text = error.to_string();
    let short: Vec<&str> = text.lines().take_while(|line| !line.starts_with("Backtrace")).map(str::trim).collect();
    short.join(": ")
}

pub fn upload<R: Runtime, T: CubeElement>(client: &ComputeClient<R>, values: &[T]) -> Buffer {
    // A binding of no bytes is refused by every API: four elements stand in, one whole vector.
    let padding: [T; 4] = std::array::from_fn(|_| bytemuck::Zeroable::zeroed());
    let values = if values.is_empty() { &padding[..] } else { values };
    (client.create_from_slice(T::as_bytes(values)), values.len())
}

/// Memory for `len` elements of `size` bytes, in whole vectors of four and one at least; unspecified until written.
pub fn empty<R: Runtime>(client: &ComputeClient<R>, len: usize, size: usize) -> Buffer {
    let len = len.max(1).next_multiple_of(4);
    (client.empty(len * size), len)
}

/// Enough cubes of `units` units for one unit per element. They spread over X and Y, as X alone may be too short.
pub fn cubes<R: Runtime>(client: &ComputeClient<R>, elements: usize, units: usize) -> CubeCount {
    let cubes = elements.div_ceil(units).max(1);
    let x = cubes.min(client.properties().hardware.max_cube_count.0 as usize);
    CubeCount::Static(x as u32, cubes.div_ceil(x) as u32, 1)
}

/// Writes `value` to each of the buffer's first `len` words of 32 bits.
pub fn fill<R: Runtime>(client: &ComputeClient<R>, handle: &Handle, len: usize, value: u32) {
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
