//! What ptxas says of the machine code that it made.

use serde::{Deserialize, Serialize};

/// The resources of a kernel, per thread unless said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Registers.
    pub registers: u32,
    /// Bytes of the stack frame: local memory for arrays that are indexed at run time, and for spills.
    pub stack: u32,
    /// Bytes of registers stored to local memory.
    pub spill_stores: u32,
    /// Bytes of registers loaded from local memory.
    pub spill_loads: u32,
    /// Bytes of static shared memory of a block.
    pub static_shared: u32,
    /// Bytes of constant memory.
    pub constant: u32,
}

impl Resources {
    /// Reads the lines that `--ptxas-options=-v` adds to NVRTC's log, of a unit with one kernel.
    ///
    /// ```text
    /// ptxas info    : Function properties for kernel
    ///     8 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads
    /// ptxas info    : Used 40 registers, used 1 barriers, 384 bytes smem, 388 bytes cmem[0]
    /// ```
    pub fn read(log: &str) -> Option<Self> {
        let frame = log.lines().find(|line| line.contains("bytes stack frame"))?;
        let used = log.lines().find(|line| line.contains("Used ") && line.contains(" registers"))?;
        let [stack, spill_stores, spill_loads] =
            ["bytes stack frame", "bytes spill stores", "bytes spill loads"].map(|what| before(frame, what));
        Some(Self {
            registers: before(used, "registers")?,
            stack: stack?,
            spill_stores: spill_stores?,
            spill_loads: spill_loads?,
            static_shared: before(used, "bytes smem").unwrap_or(0),
            constant: used
                .split(',')
                .filter(|part| part.contains("cmem["))
                .filter_map(|p| before(p, "bytes cmem"))
                .sum(),
        })
    }
}

/// The number in front of a word.
fn before(line: &str, what: &str) -> Option<u32> {
    let head = line[..line.find(what)?].trim_end();
    head.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_ptxas_prints() {
        let log = "ptxas info    : 0 bytes gmem\n\
                   ptxas info    : Compiling entry function 'kernel' for 'sm_90a'\n\
                   ptxas info    : Function properties for kernel\n    \
                   16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads\n\
                   ptxas info    : Used 127 registers, used 1 barriers, 16 bytes cumulative stack size, 384 bytes smem, \
                   388 bytes cmem[0], 8 bytes cmem[2]\n";
        let expected = Resources {
            registers: 127,
            stack: 16,
            spill_stores: 8,
            spill_loads: 12,
            static_shared: 384,
            constant: 396,
        };
        assert_eq!(Resources::read(log), Some(expected));
        assert_eq!(Resources::read("no such lines"), None);
    }
}
