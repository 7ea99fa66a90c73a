//! The options of systemd-nspawn, split as systemd-nspawn splits them: by getopt_long(3), up to the first word
//! that is not an option (nspawn.c, `parse_argv`, of systemd 247 to 261). The rest is the payload's.

/// The argument of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Argument {
    No,
    /// Behind `=` only.
    Optional,
    Required,
    /// Behind `=`, or the next word if that does not begin with a hyphen: `--user` had an argument, and
    /// systemd still accepts it since it has none.
    NextWord,
}

/// An option: its name, its letter, its argument, and the version of systemd that added it if that is
/// later than 247.
struct NspawnOption {
    long: &'static str,
    short: Option<char>,
    argument: Argument,
    since: u16,
}

const fn option(long: &'static str, argument: Argument) -> NspawnOption {
    NspawnOption { long, short: None, argument, since: 0 }
}

impl NspawnOption {
    const fn short(mut self, short: char) -> Self {
        self.short = Some(short);
        self
    }

    const fn since(mut self, version: u16) -> Self {
        self.since = version;
        self
    }
}

/// Letters without a long name; none has an argument.
const OTHER_LETTERS: [char; 3] = ['U', 'j', 'h'];

static OPTIONS: &[NspawnOption] = {
    use Argument::{NextWord, No, Optional, Required};
    &[
        option("help", No).short('h'),
        option("version", No),
        option("quiet", No).short('q'),
        option("no-pager", No),
        option("settings", Required),
        option("cleanup", No).since(257),
        option("no-ask-password", No).since(257),
        option("directory", Required).short('D'),
        option("template", Required),
        option("ephemeral", No).short('x'),
        option("image", Required).short('i'),
        option("image-policy", Required).since(254),
        option("mstack", Required).since(260),
        option("oci-bundle", Required),
        option("read-only", No),
        option("volatile", Optional),
        option("root-hash", Required),
        option("root-hash-sig", Required),
        option("verity-data", Required),
        option("pivot-root", Required),
        option("as-pid2", No).short('a'),
        option("boot", No).short('b'),
        option("chdir", Required),
        option("setenv", Required).short('E'),
        option("uid", Required).short('u').since(258),
        option("user", NextWord),
        option("system", No).since(258),
        option("kill-signal", Required),
        option("notify-ready", Required),
        option("suppress-sync", Required).since(250),
        option("machine", Required).short('M'),
        option("hostname", Required),
        option("uuid", Required),
        option("slice", Required).short('S'),
        option("property", Required),
        option("register", Required),
        option("keep-unit", No),
        option("private-users", Optional),
        option("private-users-chown", Optional),
        option("private-users-ownership", Required).since(249),
        option("private-users-delegate", Required).since(260),
        option("private-network", No),
        option("network-interface", Required),
        option("network-macvlan", Required),
        option("network-ipvlan", Required),
        option("network-veth", No).short('n'),
        option("network-veth-extra", Required),
        option("network-bridge", Required),
        option("network-zone", Required),
        option("network-namespace-path", Required),
        option("port", Required).short('p'),
        option("capability", Required),
        option("drop-capability", Required),
        option("ambient-capability", Required).since(248),
        option("no-new-privileges", Required),
        option("system-call-filter", Required),
        option("selinux-context", Required).short('Z'),
        option("selinux-apifs-context", Required).short('L'),
        option("rlimit", Required),
        option("oom-score-adjust", Required),
        option("cpu-affinity", Required),
        option("personality", Required),
        option("resolv-conf", Required),
        option("timezone", Required),
        option("link-journal", Required),
        option("forward-journal", Required).since(260),
        option("forward-journal-max-use", Required).since(260),
        option("forward-journal-keep-free", Required).since(260),
        option("forward-journal-max-file-size", Required).since(260),
        option("forward-journal-max-files", Required).since(260),
        option("bind", Required),
        option("bind-ro", Required),
        option("inaccessible", Required),
        option("tmpfs", Required),
        option("overlay", Required),
        option("overlay-ro", Required),
        option("bind-user", Required).since(249),
        option("bind-user-shell", Required).since(258),
        option("bind-user-group", Required).since(259),
        option("console", Required),
        option("pipe", No).short('P'),
        option("background", Required).since(256),
        option("set-credential", Required),
        option("load-credential", Required),
        option("share-system", No),
    ]
};

/// The options and the rest of a command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct NspawnCommandLine<'a> {
    /// Each option by its long name, with its argument.
    pub options: Vec<(&'static str, Option<&'a str>)>,
    /// Whether a payload, or arguments for the init, follow.
    pub has_payload: bool,
}

impl<'a> NspawnCommandLine<'a> {
    /// Splits a command line, of which the first word is the program's name.
    pub(super) fn split(argv: &'a [String]) -> Self {
        let mut found = Self::default();
        let mut words = argv.iter().skip(1).map(String::as_str).peekable();
        while let Some(word) = words.next_if(|word| word.len() > 1 && word.starts_with('-')) {
            if word == "--" {
                break;
            }
            match word.strip_prefix("--") {
                Some(long) => found.long(long, &mut words),
                None => found.short(&word[1..], &mut words),
            }
        }
        found.has_payload = words.next().is_some();
        found
    }

    fn long(
        &mut self,
        text: &'a str,
        words: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>,
    ) {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let Some(option) = by_long_name(name) else { return };
        let value = value.or_else(|| match option.argument {
            Argument::No | Argument::Optional => None,
            Argument::Required => words.next(),
            Argument::NextWord => words.next_if(|word| !word.starts_with('-')),
        });
        self.options.push((option.long, value));
    }

    /// Splits the letters of one word: `-bD/srv/web`, or `-bD` with the directory in the next word.
    fn short(&mut self, letters: &'a str, words: &mut impl Iterator<Item = &'a str>) {
        for (index, letter) in letters.char_indices() {
            let option = OPTIONS.iter().find(|option| option.short == Some(letter));
            let Some(option) = option.filter(|_| !OTHER_LETTERS.contains(&letter)) else {
                continue;
            };
            if option.argument != Argument::Required {
                self.options.push((option.long, None));
                continue;
            }
            let rest = &letters[index + letter.len_utf8()..];
            let value = if rest.is_empty() { words.next() } else { Some(rest) };
            return self.options.push((option.long, value));
        }
    }
}

/// Returns the option of this name, or of an abbreviation of it. A systemd-nspawn that runs had just one
/// option to which an abbreviation applied: of several, the one that is oldest, because the others were
/// not there yet.
fn by_long_name(name: &str) -> Option<&'static NspawnOption> {
    let mut abbreviated = OPTIONS.iter().filter(|option| option.long.starts_with(name));
    let whole = OPTIONS.iter().find(|option| option.long == name);
    let Some(first) = abbreviated.next().filter(|_| whole.is_none() && !name.is_empty()) else {
        return whole;
    };
    Some(
        abbreviated
            .fold(first, |oldest, next| if next.since < oldest.since { next } else { oldest }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> (String, bool) {
        let argv: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let found = NspawnCommandLine::split(&argv);
        let options: Vec<String> = (found.options.iter())
            .map(|(name, value)| match value {
                Some(value) => format!("{name}={value}"),
                None => (*name).to_owned(),
            })
            .collect();
        (options.join(" "), found.has_payload)
    }

    #[test]
    fn splits_as_getopt_long_does() {
        for (line, options, has_payload) in [
            ("nspawn -bD /srv/web", "boot directory=/srv/web", false),
            ("nspawn -UbD /srv/web", "boot directory=/srv/web", false),
            ("nspawn -D/srv/web /loop.sh", "directory=/srv/web", true),
            ("nspawn -qbMm -D r", "quiet boot machine=m directory=r", false),
            ("nspawn -Mm -D r", "machine=m directory=r", false),
            ("nspawn -Db", "directory=b", false),
            (
                "nspawn -nxq -p 80 -S s -E A=b -uroot -P",
                "network-veth ephemeral quiet port=80 slice=s setenv=A=b uid=root pipe",
                false,
            ),
            (
                "nspawn -Z a:b:c -L d -ir.raw",
                "selinux-context=a:b:c selinux-apifs-context=d image=r.raw",
                false,
            ),
            ("nspawn --direct=/srv/web --boo", "directory=/srv/web boot", false),
            ("nspawn --dir /srv/web sh", "directory=/srv/web", true),
            ("nspawn --mach m --ki INT", "machine=m kill-signal=INT", false),
            ("nspawn --im r.raw --bind-u x", "image=r.raw bind-user=x", false),
            ("nspawn --bind=-b --bind -b", "bind=-b bind=-b", false),
            ("nspawn --private-users --boot", "private-users boot", false),
            ("nspawn --volatile state", "volatile", true),
            ("nspawn --pipe --user --boot", "pipe user boot", false),
            ("nspawn --user joe --boot", "user=joe boot", false),
            ("nspawn -D r sh -b -M x --kill-signal=INT", "directory=r", true),
            ("nspawn -D r -- -b", "directory=r", true),
            ("nspawn -D r - -b", "directory=r", true),
            ("nspawn -D r --", "directory=r", false),
            ("nspawn -b --machine", "boot machine", false),
            ("nspawn", "", false),
        ] {
            assert_eq!(split(line), (options.to_owned(), has_payload), "{line}");
        }
        assert_eq!(NspawnCommandLine::split(&[]), NspawnCommandLine::default());
    }

    #[test]
    fn an_abbreviation_is_of_the_option_that_was_there_first() {
        for (name, long) in [
            ("a", Some("as-pid2")),
            ("bind", Some("bind")),
            ("bind-user", Some("bind-user")),
            ("private-users-o", Some("private-users-ownership")),
            ("us", Some("user")),
            ("ui", Some("uid")),
            ("nosuch", None),
            ("", None),
        ] {
            assert_eq!(by_long_name(name).map(|option| option.long), long, "{name}");
        }
    }

    #[test]
    fn no_name_and_no_letter_occurs_twice() {
        for (index, option) in OPTIONS.iter().enumerate() {
            for other in &OPTIONS[index + 1..] {
                assert_ne!(option.long, other.long);
                assert!(option.short.is_none() || option.short != other.short, "{}", option.long);
            }
        }
    }
}
