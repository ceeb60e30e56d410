//! Requests go first: a lane that shares a processor with request threads waits for them, not they for it.

/// How much nicer than the process the thread of a lane is: of a processor that requests want whole it gets a quarter.
#[cfg(target_os = "linux")]
const NICER: i32 = 5;

/// Has the calling thread get a smaller part of a processor that others want as well, as long as it lives.
#[cfg(target_os = "linux")]
pub fn give_way() {
    // Of this thread alone: Linux keeps niceness by thread, against what POSIX says.
    if let Err(error) = rustix::process::nice(NICER) {
        tracing::debug!(%error, "a lane competes with requests for processors; all else is as it should be");
    }
}

/// Elsewhere niceness is the process's, requests and all.
#[cfg(not(target_os = "linux"))]
pub fn give_way() {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::thread;

    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn a_thread_that_gives_way_leaves_others_as_they_are() {
        let before = getpriority_process(None).unwrap();
        let other = thread::spawn(|| {
            give_way();
            getpriority_process(None).unwrap()
        });
        assert_eq!(other.join().unwrap(), (before + NICER).min(19), "the thread itself");
        assert_eq!(getpriority_process(None).unwrap(), before, "whoever started it");
    }
}
