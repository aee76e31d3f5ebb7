//! What is documented of NVIDIA's architectures: how many blocks fit a multiprocessor, and what whole parts can do.

use serde::{Deserialize, Serialize};

/// A multiprocessor, from the technical specifications in the CUDA C++ Programming Guide (compute capabilities).
struct Multiprocessor {
    version: u16,
    warps: u32,
    blocks: u32,
    shared: u32,
}

/// Registers of a multiprocessor and of a block; alike on all that follow.
const REGISTERS: u32 = 65_536;
/// Registers are allocated to a warp in units of this many.
const REGISTER_UNIT: u32 = 256;
/// A multiprocessor's parts, each with its own registers.
const PARTS: u32 = 4;
/// Bytes of shared memory are allocated in units of this many, after what the system keeps of each block.
const SHARED_UNIT: u32 = 128;
const SHARED_RESERVED: u32 = 1024;

const MULTIPROCESSORS: &[Multiprocessor] = &[
    Multiprocessor { version: 80, warps: 64, blocks: 32, shared: 164 << 10 },
    Multiprocessor { version: 86, warps: 48, blocks: 16, shared: 100 << 10 },
    Multiprocessor { version: 89, warps: 48, blocks: 24, shared: 100 << 10 },
    Multiprocessor { version: 90, warps: 64, blocks: 32, shared: 228 << 10 },
    Multiprocessor { version: 100, warps: 64, blocks: 32, shared: 228 << 10 },
    Multiprocessor { version: 120, warps: 48, blocks: 24, shared: 100 << 10 },
];

/// How much of a multiprocessor a kernel can fill, and what keeps it from filling more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Occupancy {
    /// Blocks on one multiprocessor at a time.
    pub blocks: u32,
    /// Warps on one multiprocessor at a time.
    pub warps: u32,
    /// Of the warps it can hold.
    pub fraction: f64,
    /// `registers`, `shared memory`, `warps` or `blocks`; several where they tie.
    pub limiter: String,
}

/// The arithmetic of NVIDIA's occupancy calculator (`cuda_occupancy.h`); `None` for an architecture that is not in the table.
pub fn occupancy(version: u16, registers: u32, shared: u32, units: u32) -> Option<Occupancy> {
    let sm = MULTIPROCESSORS.iter().find(|sm| sm.version == version)?;
    let warps = units.div_ceil(32).max(1);
    let per_warp = (registers * 32).next_multiple_of(REGISTER_UNIT);
    // The hardware checks a block as if its warps were spread evenly over the parts.
    let by_registers = if per_warp == 0 {
        u32::MAX
    } else if per_warp * warps.next_multiple_of(PARTS) > REGISTERS {
        0
    } else {
        REGISTERS / PARTS / per_warp * PARTS / warps
    };
    let by_shared = sm.shared / (shared + SHARED_RESERVED).next_multiple_of(SHARED_UNIT);
    let bounds =
        [("registers", by_registers), ("shared memory", by_shared), ("warps", sm.warps / warps), ("blocks", sm.blocks)];
    let blocks = bounds.iter().map(|(_, b)| *b).min().unwrap_or(0);
    let limiter: Vec<&str> = bounds.iter().filter(|(_, b)| *b == blocks).map(|(name, _)| *name).collect();
    let fraction = f64::from(blocks * warps) / f64::from(sm.warps);
    Some(Occupancy { blocks, warps: blocks * warps, fraction, limiter: limiter.join(", ") })
}

/// Documented peaks of a part, without tensor cores.
pub struct Part {
    /// Its name.
    pub name: &'static str,
    /// What the driver calls it.
    reported: &'static str,
    /// Compute capability.
    pub version: u16,
    /// FLOP/s in f32 and f64.
    flops: [f64; 2],
    /// Bytes per second to and from its memory.
    pub bandwidth: f64,
    /// Where that is documented.
    pub source: &'static str,
}

impl Part {
    /// FLOP/s in elements of this many bytes.
    pub fn peak(&self, size: usize) -> f64 {
        self.flops[usize::from(size == 8)]
    }
}

/// Whole parts by architecture.
pub const PARTS_KNOWN: &[Part] = &[
    Part {
        name: "A100 SXM 80 GB",
        reported: "NVIDIA A100-SXM4-80GB",
        version: 80,
        flops: [19.5e12, 9.7e12],
        bandwidth: 2.039e12,
        source: "NVIDIA A100 Tensor Core GPU datasheet",
    },
    Part {
        name: "H100 SXM",
        reported: "NVIDIA H100 80GB HBM3",
        version: 90,
        flops: [67e12, 34e12],
        bandwidth: 3.35e12,
        source: "NVIDIA H100 Tensor Core GPU datasheet",
    },
    Part {
        name: "H200 SXM",
        reported: "NVIDIA H200",
        version: 90,
        flops: [67e12, 34e12],
        bandwidth: 4.8e12,
        source: "NVIDIA H200 Tensor Core GPU datasheet",
    },
];

/// The part that the driver calls so.
pub fn reported_as(name: &str) -> Option<&'static Part> {
    PARTS_KNOWN.iter().find(|part| part.reported == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Architecture, registers, shared bytes, units; blocks and limiter by `cudaOccMaxActiveBlocksPerMultiprocessor` of
    /// CUDA 13.2's `cuda_occupancy.h`, with shared memory preferred over L1.
    const KNOWN: &[(u16, u32, u32, u32, u32, &str)] = &[
        (80, 32, 0, 256, 8, "registers, warps"),
        (80, 128, 0, 256, 2, "registers"),
        (80, 40, 0, 32, 32, "blocks"),
        (80, 168, 0, 128, 3, "registers"),
        (80, 255, 0, 256, 1, "registers"),
        (80, 255, 0, 512, 0, "registers"),
        (80, 64, 49152, 128, 3, "shared memory"),
        (80, 33, 16384, 96, 9, "shared memory"),
        (80, 64, 166912, 1024, 1, "registers, shared memory"),
        (80, 24, 1024, 1024, 2, "registers, warps"),
        (86, 40, 8192, 128, 11, "shared memory"),
        (89, 40, 8192, 128, 11, "shared memory"),
        (90, 32, 0, 256, 8, "registers, warps"),
        (90, 96, 0, 384, 1, "registers"),
        (90, 127, 5824, 32, 16, "registers"),
        (90, 64, 232448, 256, 1, "shared memory"),
        (90, 64, 116224, 256, 1, "shared memory"),
        (90, 40, 0, 32, 32, "blocks"),
        (90, 72, 45056, 160, 5, "registers, shared memory"),
        (100, 255, 4096, 64, 4, "registers"),
        (120, 80, 20000, 256, 3, "registers"),
    ];

    #[test]
    fn as_the_occupancy_calculator_says() {
        for &(version, registers, shared, units, blocks, limiter) in KNOWN {
            let case = format!("sm_{version}, {registers} registers, {shared} bytes, {units} units");
            let found = occupancy(version, registers, shared, units).unwrap_or_else(|| panic!("{case}: not known"));
            assert_eq!((found.blocks, found.limiter.as_str()), (blocks, limiter), "{case}");
        }
        // 2 blocks of 8 warps of the 64.
        assert_eq!(occupancy(80, 128, 0, 256).map(|o| (o.warps, o.fraction)), Some((16, 0.25)));
        assert_eq!(occupancy(10, 32, 0, 32), None);
    }
}
