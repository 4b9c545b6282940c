//! What this process has cost so far, as the kernel counts it.

use std::time::Duration;

/// CPU time and memory.
#[derive(Debug, Default)]
pub(crate) struct Cost {
    /// User and system time.
    pub(crate) cpu: Duration,
    /// Largest resident set, in bytes.
    pub(crate) peak_rss: u64,
}

/// Reads it; zeros where the kernel does not tell.
pub(crate) fn cost() -> Cost {
    let peak_rss = std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|text| peak(&text))
        .unwrap_or_default();
    let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u64::try_from(cpu.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(cpu.tv_nsec).unwrap_or_default();
    Cost {
        cpu: Duration::from_secs(seconds) + Duration::from_nanos(nanos),
        peak_rss,
    }
}

fn peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_from_the_kernels_text() {
        assert_eq!(peak("Name:\tx\nVmHWM:\t    2048 kB\n"), Some(2 << 20));
        assert_eq!(peak(""), None);
    }
}
