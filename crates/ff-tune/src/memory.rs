//! How much memory there is, and how much of it is taken.

use sysinfo::{MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, System};

fn system() -> System {
    let mut system = System::new();
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    system
}

/// Memory of the machine, bytes; `None` where the system does not say.
pub fn total() -> Option<u64> {
    Some(system().total_memory()).filter(|bytes| *bytes > 0)
}

/// What the system, or the control group of this process, can spare, bytes; `None` where the system does not say.
pub fn spare() -> Option<u64> {
    let system = system();
    if system.total_memory() == 0 {
        return None;
    }
    let group = system.cgroup_limits().map_or(u64::MAX, |group| group.free_memory);
    Some(system.available_memory().min(group))
}

/// Memory of this process that is in use, bytes. What is only mapped does not count: drivers and stacks of threads map far more
/// than they use.
pub(crate) fn resident() -> Option<u64> {
    let (mut system, this) = (System::new(), Pid::from_u32(std::process::id()));
    let memory = ProcessRefreshKind::nothing().without_tasks().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[this]), false, memory);
    Some(system.process(this)?.memory())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_touched_is_resident_and_no_more_can_be_spared_than_there_is() {
        let (total, spare) = (total().expect("known here"), spare().expect("known here"));
        assert!(spare > 0 && spare <= total, "{spare} of {total}");
        let before = resident().expect("known here");
        let touched = std::hint::black_box(vec![1u8; 64 << 20]);
        let after = resident().expect("known here");
        // Other tests give memory back meanwhile; most of this is there all the same.
        assert!(after > before + (32 << 20), "{before} before and {after} after {} bytes", touched.len());
        assert!(after < total);
    }
}
