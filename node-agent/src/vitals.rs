//! What the agent can see of itself: its memory.

use std::fs;

/// The agent's resident memory in KiB; 0 when it cannot be read.
pub fn resident_kib() -> u32 {
    let pages = fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_ascii_whitespace().nth(1)?.parse::<usize>().ok());
    pages.map_or(0, |pages| u32::try_from(pages * rustix::param::page_size() / 1024).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_running_agent_has_memory() {
        assert!(super::resident_kib() > 100);
    }
}
