//! `/proc/PID/limits`: the resource limits of a process (proc_pid_limits(5), getrlimit(2)).

use super::bytes::decimal;

/// A resource limit; none means unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ResourceLimit {
    /// The kernel's number, `RLIMIT_*`.
    pub resource: u32,
    /// Soft limit, in force now.
    pub soft: Option<u64>,
    /// Hard limit, up to which the soft one may be raised.
    pub hard: Option<u64>,
}

/// The kernel's names in this file, by the number of the resource
/// (include/uapi/asm-generic/resource.h, fs/proc/base.c), and the names of getrlimit(2).
const NAMES: &[(&str, &str)] = &[
    ("Max cpu time", "CPU"),
    ("Max file size", "FSIZE"),
    ("Max data size", "DATA"),
    ("Max stack size", "STACK"),
    ("Max core file size", "CORE"),
    ("Max resident set", "RSS"),
    ("Max processes", "NPROC"),
    ("Max open files", "NOFILE"),
    ("Max locked memory", "MEMLOCK"),
    ("Max address space", "AS"),
    ("Max file locks", "LOCKS"),
    ("Max pending signals", "SIGPENDING"),
    ("Max msgqueue size", "MSGQUEUE"),
    ("Max nice priority", "NICE"),
    ("Max realtime priority", "RTPRIO"),
    ("Max realtime timeout", "RTTIME"),
];

impl ResourceLimit {
    /// Returns the number of a resource by its name in getrlimit(2), `RLIMIT_NOFILE`.
    pub fn named(name: &str) -> Option<u32> {
        let name = name.strip_prefix("RLIMIT_")?;
        NAMES.iter().position(|(_, known)| *known == name).and_then(|n| u32::try_from(n).ok())
    }

    /// Returns the name of getrlimit(2) without `RLIMIT_`.
    pub fn name(&self) -> &'static str {
        NAMES.get(self.resource as usize).map_or("?", |(_, name)| name)
    }
}

/// Parses the file; unknown lines are left out.
///
/// ```text
/// Limit                     Soft Limit           Hard Limit           Units
/// Max cpu time              unlimited            unlimited            seconds
/// Max open files            1024                 524288               files
/// ```
pub fn parse(bytes: &[u8]) -> Vec<ResourceLimit> {
    let limit = |word: &[u8]| match word {
        b"unlimited" => Some(None),
        digits => decimal(digits).map(Some),
    };
    bytes
        .split(|b| *b == b'\n')
        .filter_map(|line| {
            let resource = NAMES.iter().position(|(name, _)| line.starts_with(name.as_bytes()))?;
            let rest = &line[NAMES[resource].0.len()..];
            let mut words = rest.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            let (soft, hard) = (limit(words.next()?)?, limit(words.next()?)?);
            Some(ResourceLimit { resource: u32::try_from(resource).ok()?, soft, hard })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_limits_by_their_names() {
        let text = b"Limit   Soft Limit  Hard Limit  Units\n\
            Max cpu time              unlimited            unlimited            seconds   \n\
            Max open files            1024                 524288               files     \n\
            Max nice priority         0                    0                    \nbad\n";
        let limits = parse(text);
        let open = ResourceLimit { resource: 7, soft: Some(1024), hard: Some(524_288) };
        assert_eq!(limits[0], ResourceLimit { resource: 0, soft: None, hard: None });
        assert_eq!((limits[1], limits[1].name(), limits.len()), (open, "NOFILE", 3));
        // All of those that this kernel has.
        let real = std::fs::read("/proc/self/limits").unwrap();
        assert_eq!(parse(&real).len(), NAMES.len());
    }
}
