//! OOM kills in the kernel's log (mm/oom_kill.c, `dump_header` and `__oom_kill_process`), as /dev/kmsg has
//! its records (Documentation/ABI/testing/dev-kmsg). Pure.

use super::bytes::leading_number;

/// A process that the kernel killed for lack of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OomKill {
    /// Microseconds since boot.
    pub time: u64,
    /// The memory cgroup whose limit was reached; `None` if the whole host had no memory left.
    pub limited: Option<Vec<u8>>,
    /// The memory cgroup of the process.
    pub cgroup: Vec<u8>,
    /// Its name.
    pub comm: Vec<u8>,
    /// Its host PID.
    pub pid: i32,
    /// Its resident anonymous memory, in bytes.
    pub anonymous: Option<u64>,
}

/// The kernel's own messages, not those that a program wrote into its log (`LOG_KERN`).
const KERNEL_FACILITY: u32 = 0;
/// TASK_COMM_LEN without the byte at the end.
const LONGEST_COMM: usize = 15;

/// A record of /dev/kmsg: facility and level, sequence number, microseconds, flags; text.
struct KernelRecord<'a> {
    time: u64,
    text: &'a [u8],
}

impl<'a> KernelRecord<'a> {
    fn parse(record: &'a [u8]) -> Option<Self> {
        let line = record.split(|byte| *byte == b'\n').next()?;
        let semicolon = line.iter().position(|byte| *byte == b';')?;
        let mut fields = std::str::from_utf8(&line[..semicolon]).ok()?.split(',');
        let priority: u32 = fields.next()?.parse().ok()?;
        let time = fields.nth(1)?.parse().ok()?;
        (priority >> 3 == KERNEL_FACILITY).then(|| Self { time, text: &line[semicolon + 1..] })
    }
}

/// Finds OOM kills in records that come one by one. The two messages of a kill follow each other.
#[derive(Debug, Default)]
pub struct OomParser {
    pending: Option<OomKill>,
    /// Microseconds since boot of the first record; older ones have been overwritten.
    pub first: Option<u64>,
}

impl OomParser {
    /// Parses the next record, and returns a kill that is complete.
    pub fn next(&mut self, record: &[u8]) -> Option<OomKill> {
        let record = KernelRecord::parse(record)?;
        self.first.get_or_insert(record.time);
        if record.text.starts_with(b"oom-kill:") {
            return std::mem::replace(&mut self.pending, parse_choice(&record));
        }
        let pid = killed_pid(record.text)?;
        let pending = self.pending.take_if(|kill| kill.pid == pid)?;
        Some(OomKill { anonymous: kibibytes(record.text, b" anon-rss:"), ..pending })
    }

    /// Returns a kill of which the second message is missing.
    pub fn finish(&mut self) -> Option<OomKill> {
        self.pending.take()
    }
}

/// Parses `oom-kill:constraint=…,oom_memcg=PATH,task_memcg=PATH,task=COMM,pid=N,uid=N` (since Linux 5.0).
/// A cgroup's path may have anything in it, and so may a name; a line in which a key could be either is
/// ignored.
fn parse_choice(record: &KernelRecord<'_>) -> Option<OomKill> {
    let text = record.text;
    let all = |needle: &[u8]| memchr::memmem::find_iter(text, needle).collect::<Vec<usize>>();
    let once = |needle: &[u8]| match all(needle)[..] {
        [index] => Some(index),
        _ => None,
    };
    let task_memcg = once(b",task_memcg=")?;
    let pid_key = once(b",pid=")?;
    let pid = leading_number(&text[pid_key + 5..])?;
    let task = once(b",task=").filter(|task| (task_memcg..pid_key).contains(task))?;
    let comm = &text[task + 6..pid_key];
    if comm.len() > LONGEST_COMM {
        return None;
    }
    let limited = match all(b",oom_memcg=")[..] {
        [] => None,
        [start] if start < task_memcg => Some(text[start + 11..task_memcg].to_vec()),
        _ => return None,
    };
    Some(OomKill {
        time: record.time,
        limited,
        cgroup: text[task_memcg + 12..task].to_vec(),
        comm: comm.to_vec(),
        pid,
        anonymous: None,
    })
}

/// Parses `Memory cgroup out of memory: Killed process 11348 (sh) total-vm:…`.
fn killed_pid(text: &[u8]) -> Option<i32> {
    let start = memchr::memmem::find(text, b"ut of memory: Killed process ")? + 29;
    leading_number(&text[start..])
}

/// Parses the last ` anon-rss:20104kB`; an earlier one may be in the name.
fn kibibytes(text: &[u8], key: &[u8]) -> Option<u64> {
    let start = memchr::memmem::rfind(text, key)? + key.len();
    leading_number::<u64>(&text[start..])?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHOICE: &str = "6,1,12544786406,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=abc,mems_allowed=0,oom_memcg=/docker/abc,task_memcg=/docker/abc,task=sh,pid=11348,uid=0\n";
    const KILL: &str = "3,2,12544786421,-;Memory cgroup out of memory: Killed process 11348 (sh) total-vm:43236kB, anon-rss:20104kB, file-rss:1520kB, shmem-rss:0kB, UID:0 pgtables:92kB oom_score_adj:0\n SUBSYSTEM=x\n";

    fn kills(records: &[&str]) -> Vec<OomKill> {
        let mut parser = OomParser::default();
        let mut kills: Vec<OomKill> =
            records.iter().filter_map(|record| parser.next(record.as_bytes())).collect();
        kills.extend(parser.finish());
        kills
    }

    #[test]
    fn both_messages_make_a_kill() {
        let kill = OomKill {
            time: 12_544_786_406,
            limited: Some(b"/docker/abc".to_vec()),
            cgroup: b"/docker/abc".to_vec(),
            comm: b"sh".to_vec(),
            pid: 11348,
            anonymous: Some(20104 * 1024),
        };
        assert_eq!(kills(&["6,0,5,-;Linux\n", CHOICE, KILL]), std::slice::from_ref(&kill));
        assert_eq!(kills(&[CHOICE]), [OomKill { anonymous: None, ..kill }]);
        let global =
            CHOICE.replace("MEMCG", "NONE").replace(",oom_memcg=/docker/abc", ",global_oom");
        assert_eq!(kills(&[&global])[0].limited, None);
    }

    #[test]
    fn messages_that_a_user_could_have_written_are_ignored() {
        // Written by a program to /dev/kmsg.
        assert!(kills(&[&CHOICE.replacen("6,", "14,", 1)]).is_empty());
        for forged in [
            CHOICE.replace("task=sh", "task=sh,pid=1,uid"),
            CHOICE.replace("task_memcg=/docker/abc", "task_memcg=/u,task_memcg=/docker/abc"),
            CHOICE.replace("oom_memcg=/docker/abc", "oom_memcg=/u,oom_memcg=/docker/abc"),
            CHOICE.replace("task=sh", "task=,task=sh"),
            CHOICE.replace("task=sh", "task=a name of more than 15"),
            CHOICE.replace("pid=11348", "pid="),
        ] {
            assert!(kills(&[&forged]).is_empty(), "{forged}");
        }
        assert!(kills(&["", ";", "6,1", "6,1,2,-", "oom-kill:", "x,y,z;oom-kill:"]).is_empty());
    }

    proptest::proptest! {
        #[test]
        fn no_record_makes_the_parser_panic(records: Vec<Vec<u8>>) {
            let mut parser = OomParser::default();
            for record in records {
                parser.next(&record);
                parser.next(&[b"6,1,1,-;oom-kill:,task_memcg=/a,task=b,pid=1,", &record[..]].concat());
            }
        }
    }
}
