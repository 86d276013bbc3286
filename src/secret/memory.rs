//! This process's memory, which holds every password and token in use: no core dump has it, and no other process of the same user can
//! attach to it or read its environment (Law 12). Root can, as it can everything.

/// Keeps it to ourselves, from here on: no core is written at a crash, and on Linux the process is not "dumpable", so that neither a
/// debugger nor `/proc/PID/{mem,environ}` opens it to the user's other programs (`prctl(2)`, `PR_SET_DUMPABLE`). Programs we start inherit
/// the first. The errors are plain words.
#[cfg(unix)]
pub(crate) fn keep_private() -> Result<(), String> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    // What the limit was may come back with a privileged exec; both are taken away.
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let kept = getrlimit(Resource::Core) == none;
    let limit = if kept { Ok(()) } else { setrlimit(Resource::Core, none) };
    let limit = limit.map_err(|error| format!("core dumps cannot be switched off: {error}"));
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(|error| format!("other programs cannot be kept from this one's memory: {error}"))?;
    limit
}

/// Elsewhere dumps are the system's to configure, and hold no more than a reader of this user's memory could take.
#[cfg(not(unix))]
pub(crate) fn keep_private() -> Result<(), String> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn no_core_is_written_and_nobody_attaches() {
        use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};
        keep_private().unwrap();
        keep_private().unwrap();
        let limit = getrlimit(Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }
}
