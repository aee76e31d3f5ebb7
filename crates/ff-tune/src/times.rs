//! Where the time of a search goes.

use std::iter::Sum;
use std::ops::{Add, AddAssign};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Nanoseconds by what they were spent on. They add up to the time on the clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Times {
    /// Preparing a launch on the problem and running it for the first time: upload, and what a device compiles.
    pub compile_ns: u64,
    /// References, and comparisons with them before and after timing.
    pub gate_ns: u64,
    /// Warm-up and samples, those of the unfused composition too.
    pub benchmark_ns: u64,
    /// Choosing what to try next.
    pub strategy_ns: u64,
    /// Everything else: making tensors, worker processes, records, tables.
    pub framework_ns: u64,
}

impl Times {
    /// On the clock, ns.
    pub fn total_ns(&self) -> u64 {
        self.kernels_ns() + self.own_ns()
    }

    /// What the kernels took: compiled, gated and run, ns.
    pub fn kernels_ns(&self) -> u64 {
        self.compile_ns + self.gate_ns + self.benchmark_ns
    }

    /// What the tuner took for itself, ns.
    pub fn own_ns(&self) -> u64 {
        self.strategy_ns + self.framework_ns
    }

    /// The share of the tuner in all of it; 0 where no time passed.
    pub fn own_share(&self) -> f64 {
        if self.total_ns() == 0 { 0.0 } else { self.own_ns() as f64 / self.total_ns() as f64 }
    }

    /// What has been spent since it was this much.
    pub fn since(self, before: Self) -> Self {
        Self {
            compile_ns: self.compile_ns.saturating_sub(before.compile_ns),
            gate_ns: self.gate_ns.saturating_sub(before.gate_ns),
            benchmark_ns: self.benchmark_ns.saturating_sub(before.benchmark_ns),
            strategy_ns: self.strategy_ns.saturating_sub(before.strategy_ns),
            framework_ns: self.framework_ns.saturating_sub(before.framework_ns),
        }
    }

    /// The same with whatever it lacks of a time on the clock put down to the framework.
    pub fn filled(self, clock: Duration) -> Self {
        let rest = ns(clock).saturating_sub(self.total_ns());
        Self { framework_ns: self.framework_ns + rest, ..self }
    }
}

/// A duration in ns.
pub(crate) fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Add for Times {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            compile_ns: self.compile_ns + other.compile_ns,
            gate_ns: self.gate_ns + other.gate_ns,
            benchmark_ns: self.benchmark_ns + other.benchmark_ns,
            strategy_ns: self.strategy_ns + other.strategy_ns,
            framework_ns: self.framework_ns + other.framework_ns,
        }
    }
}

impl AddAssign for Times {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Times {
    fn sum<I: Iterator<Item = Self>>(times: I) -> Self {
        times.fold(Self::default(), Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_add_up_to_the_clock() {
        let times = Times { compile_ns: 10, gate_ns: 30, benchmark_ns: 40, strategy_ns: 5, framework_ns: 0 };
        let filled = times.filled(Duration::from_nanos(100));
        assert_eq!((filled.total_ns(), filled.framework_ns, filled.own_ns()), (100, 15, 20));
        assert_eq!(filled.own_share(), 0.2);
        assert_eq!([filled, times].into_iter().sum::<Times>().total_ns(), 185);
        // Clocks are read apart: what was measured is never more than what there was.
        assert_eq!(filled.filled(Duration::from_nanos(90)), filled);
        assert_eq!(Times::default().own_share(), 0.0);
    }
}
