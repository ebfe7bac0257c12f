//! How busy the machine is, for whoever has work that can wait.

/// Threads that run or wait for a processor at this moment, the calling one included.
///
/// `None` where the system does not tell.
pub(crate) fn runnable_threads() -> Option<usize> {
    #[cfg(target_os = "linux")]
    return parse(&std::fs::read_to_string("/proc/loadavg").ok()?);
    #[cfg(not(target_os = "linux"))]
    None
}

/// The number before the slash: three averages, then runnable and all threads.
#[cfg(any(target_os = "linux", test))]
fn parse(loads: &str) -> Option<usize> {
    loads.split(' ').nth(3)?.split('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn the_runnable_threads_are_told_from_the_averages() {
        assert_eq!(parse("2.57 2.25 2.08 3/81 8266\n"), Some(3));
        assert_eq!(parse("0.00 0.01 0.05 1/1022 1\n"), Some(1));
        assert_eq!(parse("0.00 0.01"), None);
        assert_eq!(parse("a b c d/e f"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn whoever_asks_is_running() {
        assert!(super::runnable_threads().is_none_or(|threads| threads >= 1));
    }
}
