//! What a word for a container can mean, told by its spelling alone. Pure.

use crate::engine::ENGINES;
use crate::error::{Error, ExitStatus};
use crate::model::container::EngineKind;
use crate::model::pid::HostPid;

/// What was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerRef {
    /// `docker:web`, `containerd:default/web`, `cri:shop/web-0/app`.
    Of(EngineKind, String),
    /// `pid:812`: the container that this process of the host is in.
    Pid(HostPid),
    /// `cgroup:/some/path`.
    Cgroup(String),
    /// A name, an id or the beginning of one; or a number.
    Word(String),
}

/// Whether a word is what qualifies others: a runtime's name, `pid` or `cgroup`.
pub fn is_kind(word: &str) -> bool {
    matches!(word, "pid" | "cgroup") || ENGINES.iter().any(|e| e.kind().name() == word)
}

impl ContainerRef {
    /// Parses a word.
    ///
    /// # Errors
    /// When it is empty or qualified by something that is no runtime.
    pub fn parse(word: &str) -> Result<Self, Error> {
        let wrong = |because: String| {
            Error::new(ExitStatus::Usage, format!("`{word}` names no container")).cause(because)
        };
        if word.is_empty() {
            return Err(wrong("it is empty".into()).hint("`cinspect ls` lists containers"));
        }
        let Some((kind, rest)) = word.split_once(':') else { return Ok(Self::Word(word.into())) };
        match kind {
            "pid" => rest.parse().map(Self::Pid).map_err(|_| {
                wrong(format!("`{rest}` is not a process number")).hint("as in `pid:1234`")
            }),
            "cgroup" if rest.starts_with('/') => {
                let path = rest.trim_end_matches('/');
                Ok(Self::Cgroup(if path.is_empty() { "/".into() } else { path.into() }))
            }
            "cgroup" => Err(wrong("a cgroup path begins with `/`".into())
                .hint("as the lines of `/proc/PID/cgroup` end")),
            _ => {
                let runtime = ENGINES.iter().map(|engine| engine.kind()).find(|r| r.name() == kind);
                match runtime {
                    Some(_) if rest.is_empty() => Err(wrong("no name follows the colon".into())
                        .hint(format!("as in `{kind}:web`"))),
                    Some(runtime) => Ok(Self::Of(runtime, rest.into())),
                    None => Err(wrong(format!("`{kind}` is not a runtime")).hint(format!(
                        "one of {}, pid, cgroup",
                        ENGINES.iter().map(|e| e.kind().name()).collect::<Vec<_>>().join(", ")
                    ))),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_spelling() {
        for (word, target) in [
            ("web", ContainerRef::Word("web".into())),
            ("3f2a", ContainerRef::Word("3f2a".into())),
            ("812", ContainerRef::Word("812".into())),
            ("-9", ContainerRef::Word("-9".into())),
            ("docker:web", ContainerRef::Of(EngineKind::Docker, "web".into())),
            ("cri:shop/web-0/app", ContainerRef::Of(EngineKind::Cri, "shop/web-0/app".into())),
            ("pid:812", ContainerRef::Pid(HostPid::new(812).unwrap())),
            ("cgroup:/docker/3f/", ContainerRef::Cgroup("/docker/3f".into())),
        ] {
            assert_eq!(ContainerRef::parse(word).unwrap(), target);
        }
    }

    #[test]
    fn what_cannot_be_one_is_refused() {
        for word in [
            "",
            "pid:",
            "pid:0",
            "pid:-1",
            "pid:0x10",
            "pid:99999999999",
            "cgroup:docker",
            "dokcer:web",
            "docker:",
        ] {
            assert!(ContainerRef::parse(word).is_err(), "{word}");
        }
    }

    proptest! {
        #[test]
        fn no_word_makes_it_panic(word: String) {
            let _ = ContainerRef::parse(&word);
        }
    }
}
