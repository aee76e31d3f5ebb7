//! What a time depends on besides the code: the machine, as far as it can be read.

use std::fs;

use ff_spec::{DeviceId, RuntimeKind};
use serde::{Deserialize, Serialize};

/// The fingerprint of a machine. Times of machines with different ones are not compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Processor or adapter, as it names itself.
    pub device: String,
    /// SIMD level or compute capability.
    pub level: String,
    /// Worker threads on host.
    pub threads: usize,
    /// GiB, rounded: what the operating system keeps for itself differs from start to start.
    pub memory_gib: Option<u64>,
    /// Operating system with the release of its kernel.
    pub system: String,
    /// Driver of the adapter; empty on host.
    pub driver: String,
    /// How the clock of the processor is governed.
    pub governor: Option<String>,
}

impl Machine {
    /// This machine, as a device of it is used.
    pub fn of(device: &DeviceId, threads: usize) -> Self {
        let line = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let release = line("/proc/sys/kernel/osrelease");
        let on_host = device.runtime == RuntimeKind::Host;
        Self {
            device: device.name.clone(),
            level: device.arch.clone(),
            threads: if on_host { threads } else { 0 },
            memory_gib: ff_tune::memory::total().map(gib),
            system: [Some(std::env::consts::OS.to_owned()), release]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" "),
            driver: device.driver.clone(),
            governor: line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        }
    }

    /// What differs, each as `name: here …, there …`.
    pub fn differences(&self, there: &Machine) -> Vec<String> {
        let unknown = || "unknown".to_owned();
        let gib = |gib: Option<u64>| gib.map_or_else(unknown, |gib| format!("{gib} GiB"));
        let all = [
            ("device", self.device.clone(), there.device.clone()),
            ("level", self.level.clone(), there.level.clone()),
            ("threads", self.threads.to_string(), there.threads.to_string()),
            ("memory", gib(self.memory_gib), gib(there.memory_gib)),
            ("system", self.system.clone(), there.system.clone()),
            ("driver", self.driver.clone(), there.driver.clone()),
            ("governor", self.governor.clone().unwrap_or_else(unknown), there.governor.clone().unwrap_or_else(unknown)),
        ];
        let differs = all.into_iter().filter(|(_, here, there)| here != there);
        differs.map(|(name, here, there)| format!("{name}: here {here}, there {there}")).collect()
    }
}

/// Bytes that something large may take: half of what the system has to spare, where it says so, or its control group.
pub fn spare_memory() -> u64 {
    ff_tune::memory::spare().map_or(4 << 30, |bytes| bytes / 2)
}

/// Bytes of the largest cache of a processor; `None` where the system does not say.
pub fn cache() -> Option<u64> {
    let size = |index: usize| {
        let text = fs::read_to_string(format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size")).ok()?;
        text.trim().strip_suffix('K')?.parse::<u64>().ok()
    };
    (0..8).filter_map(size).max().map(|kib| kib << 10)
}

fn gib(bytes: u64) -> u64 {
    (bytes as f64 / f64::from(1 << 30)).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named() {
        let here = Machine {
            device: "AMD EPYC".to_owned(),
            level: "x86-v4".to_owned(),
            threads: 2,
            memory_gib: Some(16),
            system: "linux 6.1.0".to_owned(),
            driver: String::new(),
            governor: None,
        };
        assert!(here.differences(&here).is_empty());
        let there =
            Machine { threads: 4, governor: Some("powersave".to_owned()), memory_gib: Some(15), ..here.clone() };
        assert_eq!(
            here.differences(&there),
            [
                "threads: here 2, there 4",
                "memory: here 16 GiB, there 15 GiB",
                "governor: here unknown, there powersave"
            ]
        );
    }

    #[test]
    fn memory_is_rounded() {
        assert_eq!((gib(16_374_520 << 10), gib(31 << 29)), (16, 16));
    }
}
