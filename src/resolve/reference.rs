//! The parser of container references, as users type them. Pure: it decides by the spelling alone.

use crate::engine::engine_infos;
use crate::error::{Error, ExitStatus};
use crate::model::container::is_long_id;
use crate::model::engine::EngineInfo;
use crate::model::pid::HostPid;

/// A reference to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerRef {
    /// `docker:web`, `containerd:default/web`, `cri:shop/web-0/app`.
    Qualified(&'static EngineInfo, String),
    /// `pid:812`: the container that this host process is in.
    Pid(HostPid),
    /// `cgroup:/some/path`.
    Cgroup(String),
    /// A name, an ID or a prefix of one, or a number. An ID may be typed as `docker://ID`, a name as `/web`.
    Plain(String),
}

/// Whether a word is a valid qualifier, before the colon of a reference: an engine's name, `pid` or `cgroup`.
pub fn is_qualifier(word: &str) -> bool {
    matches!(word, "pid" | "cgroup") || engine_named(word).is_some()
}

/// Returns the engines that a reference can name.
fn engines() -> impl Iterator<Item = &'static EngineInfo> {
    engine_infos().filter(|engine| engine.names_containers())
}

fn engine_named(word: &str) -> Option<&'static EngineInfo> {
    engines().find(|engine| engine.name == word)
}

impl ContainerRef {
    /// Parses a reference.
    ///
    /// # Errors
    /// It is empty, the part before the colon is not an engine, `pid` or `cgroup`, or the part after
    /// it does not fit.
    pub fn parse(word: &str) -> Result<Self, Error> {
        if word.is_empty() {
            return Err(Error::new(ExitStatus::Usage, "empty container name")
                .hint("`cinspect ls` lists the running containers"));
        }
        let Some((qualifier, rest)) = word.split_once(':') else {
            // (`docker inspect` prints names with a slash.)
            let name = word.strip_prefix('/').filter(|name| is_name(name)).unwrap_or(word);
            return Ok(Self::Plain(name.into()));
        };
        // As the API of Kubernetes has it.
        if let Some(id) = rest.strip_prefix("//").filter(|id| is_long_id(id)) {
            return Ok(Self::Plain(id.into()));
        }
        let invalid = |cause: String| {
            Error::new(ExitStatus::Usage, format!("invalid container `{word}`")).cause(cause)
        };
        match (qualifier, engine_named(qualifier)) {
            ("pid", _) => rest.parse().map(Self::Pid).map_err(|_| {
                invalid(format!("`{rest}` is not a valid PID")).hint("for example `pid:1234`")
            }),
            ("cgroup", _) if rest.starts_with('/') => {
                let path = rest.trim_end_matches('/');
                Ok(Self::Cgroup(if path.is_empty() { "/".into() } else { path.into() }))
            }
            ("cgroup", _) => Err(invalid("a cgroup path begins with `/`".into())
                .hint("take the path from `/proc/PID/cgroup`")),
            (_, Some(_)) if rest.is_empty() => Err(invalid("no name after the colon".into())
                .hint(format!("for example `{qualifier}:web`"))),
            (_, Some(engine)) => Ok(Self::Qualified(engine, rest.into())),
            (_, None) => {
                Err(invalid(format!("unknown engine `{qualifier}`"))
                    .hint(valid_qualifiers(qualifier)))
            }
        }
    }
}

fn is_name(word: &str) -> bool {
    !word.is_empty() && !word.contains('/')
}

/// Returns the hint for a word that is not a qualifier.
fn valid_qualifiers(word: &str) -> String {
    let engines = engines().map(|engine| engine.name);
    let qualifiers: Vec<&str> = engines.chain(["pid", "cgroup"]).collect();
    let valid = format!("valid values: {}", qualifiers.join(", "));
    let nearest = qualifiers.iter().min_by_key(|name| strsim::osa_distance(word, name));
    match nearest.filter(|name| strsim::osa_distance(word, name) <= 2) {
        Some(nearest) => format!("did you mean `{nearest}`? {valid}"),
        None => valid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parses_every_form() {
        let engine = |name: &str| engine_named(name).unwrap();
        for (word, reference) in [
            ("web", ContainerRef::Plain("web".into())),
            ("3f2a", ContainerRef::Plain("3f2a".into())),
            ("812", ContainerRef::Plain("812".into())),
            ("-9", ContainerRef::Plain("-9".into())),
            ("docker:web", ContainerRef::Qualified(engine("docker"), "web".into())),
            ("cri:shop/web-0/app", ContainerRef::Qualified(engine("cri"), "shop/web-0/app".into())),
            ("/web", ContainerRef::Plain("web".into())),
            ("/a/b", ContainerRef::Plain("/a/b".into())),
            (&format!("containerd://{}", "3f".repeat(32)), ContainerRef::Plain("3f".repeat(32))),
            (&format!("cri-o://{}", "3f".repeat(32)), ContainerRef::Plain("3f".repeat(32))),
            ("pid:812", ContainerRef::Pid(HostPid::new(812).unwrap())),
            ("cgroup:/docker/3f/", ContainerRef::Cgroup("/docker/3f".into())),
        ] {
            assert_eq!(ContainerRef::parse(word).unwrap(), reference);
        }
    }

    #[test]
    fn refuses_words_that_cannot_be_a_container() {
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
        let error = ContainerRef::parse("dokcer:web").unwrap_err();
        assert!(error.hints[0].starts_with("did you mean `docker`? valid values: "), "{error:?}");
    }

    proptest! {
        #[test]
        fn any_word_parses_or_is_an_error(word: String) {
            match ContainerRef::parse(&word) {
                Ok(ContainerRef::Plain(plain)) => prop_assert!(word.ends_with(&plain)),
                Ok(_) => prop_assert!(word.contains(':')),
                Err(error) => prop_assert_eq!(error.status, ExitStatus::Usage),
            }
        }
    }
}
