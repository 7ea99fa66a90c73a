//! What a word for a container can mean, told by its spelling alone. Pure.

use crate::engine::engine_infos;
use crate::error::{Error, ExitStatus};
use crate::model::engine::EngineInfo;
use crate::model::pid::HostPid;

/// What was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerRef {
    /// `docker:web`, `containerd:default/web`, `cri:shop/web-0/app`.
    Of(&'static EngineInfo, String),
    /// `pid:812`: the container that this process of the host is in.
    Pid(HostPid),
    /// `cgroup:/some/path`.
    Cgroup(String),
    /// A name, an id or the beginning of one; or a number.
    Word(String),
}

/// Whether a word is what qualifies others: a runtime's name, `pid` or `cgroup`.
pub fn is_kind(word: &str) -> bool {
    matches!(word, "pid" | "cgroup") || engines().any(|engine| engine.name == word)
}

/// The engines by which a container can be named.
fn engines() -> impl Iterator<Item = &'static EngineInfo> {
    engine_infos().filter(|engine| engine.names_containers())
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
                let runtime = engines().find(|engine| engine.name == kind);
                match runtime {
                    Some(_) if rest.is_empty() => Err(wrong("no name follows the colon".into())
                        .hint(format!("as in `{kind}:web`"))),
                    Some(runtime) => Ok(Self::Of(runtime, rest.into())),
                    None => Err(wrong(format!("`{kind}` is not a runtime")).hint(format!(
                        "one of {}, pid, cgroup",
                        engines().map(|engine| engine.name).collect::<Vec<_>>().join(", ")
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
        let engine = |name: &str| engines().find(|engine| engine.name == name).unwrap();
        for (word, target) in [
            ("web", ContainerRef::Word("web".into())),
            ("3f2a", ContainerRef::Word("3f2a".into())),
            ("812", ContainerRef::Word("812".into())),
            ("-9", ContainerRef::Word("-9".into())),
            ("docker:web", ContainerRef::Of(engine("docker"), "web".into())),
            ("cri:shop/web-0/app", ContainerRef::Of(engine("cri"), "shop/web-0/app".into())),
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
