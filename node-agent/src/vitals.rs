//! What the agent can see of itself and its board: memory.

use std::fs;

/// The agent's resident memory in KiB; 0 when it cannot be read.
pub fn resident_kib() -> u32 {
    let pages = fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_ascii_whitespace().nth(1)?.parse::<usize>().ok());
    pages.map_or(0, |pages| u32::try_from(pages * rustix::param::page_size() / 1024).unwrap_or(u32::MAX))
}

/// The memory that the kernel has, in KiB; 0 when it cannot be read.
pub fn memory_kib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    total.and_then(|total| total.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// The most that it ever was, in KiB; 0 when it cannot be read.
pub fn peak_kib() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|peak| peak.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_agent_has_memory_and_had_it() {
        assert!(resident_kib() > 100 && memory_kib() > u64::from(resident_kib()));
        let block = std::hint::black_box(vec![1u8; 32 << 20]);
        let peak = peak_kib();
        assert!(peak > 32 << 10, "{peak} KiB with a block of {} bytes", block.len());
        drop(block);
        assert!(peak_kib() >= peak);
    }
}
