//! What every program tells of itself, by the names that Prometheus' own libraries use (no prefix). Linux only, but for the start: other
//! systems have no `/proc`.

use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Clock ticks a second and octets a page as `/proc` counts them: USER_HZ is 100 on every Linux there is, and statm is avoided.
#[cfg(target_os = "linux")]
const TICKS: f64 = 100.0;

pub(super) struct Process {
    cpu: Counter<f64, AtomicU64>,
    resident: Gauge,
    open: Gauge,
}

impl Process {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let started = Gauge::<f64, AtomicU64>::default();
        started.set(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()));
        registry.register("process_start_time_seconds", "Start of the process, as Unix time", started);
        let process = Self { cpu: Counter::default(), resident: Gauge::default(), open: Gauge::default() };
        if cfg!(target_os = "linux") {
            registry.register("process_cpu_seconds", "Processor time used", process.cpu.clone());
            registry.register("process_resident_memory_bytes", "Memory in use", process.resident.clone());
            registry.register("process_open_fds", "File descriptors open", process.open.clone());
        }
        process
    }

    /// Three small reads of a file system that is memory. What cannot be read keeps its last value.
    #[cfg(target_os = "linux")]
    pub(super) fn refresh(&self) {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // Behind the name, which may hold blanks: utime and stime are the 12th and 13th.
        let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').skip(11).take(2);
        let cpu = fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS;
        let more = cpu - self.cpu.get();
        // A float that is no number would stay for ever.
        if more > 0.0 {
            self.cpu.inc_by(more);
        }
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        if let Some(kib) = resident.and_then(|rest| rest.split_whitespace().next()?.parse::<i64>().ok()) {
            self.resident.set(kib << 10);
        }
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            self.open.set(i64::try_from(open.count()).unwrap_or(i64::MAX));
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn refresh(&self) {
        let _ = (&self.cpu, &self.resident, &self.open);
    }
}
