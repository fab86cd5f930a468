//! `[registry]` as written → [`Registry`] as meant.

use std::path::PathBuf;
use std::time::Duration;

use super::checked::Reader;
use super::{ConfigError, Login, Registry, SubjectStrategy};

/// Worth trying in turn, within the time that a worker may say nothing.
const URLS_MAX: usize = 5;
const TIMEOUT_MS_MIN: u64 = 100;
const TIMEOUT_MS_MAX: u64 = 10_000;

/// All is checked where there is no registry, too: a mistake shows before the address is filled in.
pub(super) fn registry(read: &Reader<'_>) -> Result<Option<Registry>, ConfigError> {
    let urls = urls(read)?;
    let timeout_ms = read.duration_ms("registry.timeout", TIMEOUT_MS_MAX, "10s")?;
    if timeout_ms < TIMEOUT_MS_MIN {
        return Err(read.invalid("registry.timeout", "100ms or more"));
    }
    let registry = Registry {
        urls,
        login: login(read)?,
        ca_file: match read.text("registry.ca_file")? {
            "" => None,
            path => Some(PathBuf::from(path)),
        },
        subject_strategy: match read.text("registry.subject_strategy")? {
            "topic_name" => SubjectStrategy::TopicName,
            "record_name" => SubjectStrategy::RecordName,
            "topic_record_name" => SubjectStrategy::TopicRecordName,
            _ => {
                return Err(
                    read.invalid("registry.subject_strategy", r#""topic_name", "record_name" or "topic_record_name""#)
                );
            }
        },
        register: read.truth("registry.register")?,
        timeout: Duration::from_millis(timeout_ms),
    };
    Ok(Some(registry).filter(|registry| !registry.urls.is_empty()))
}

fn urls(read: &Reader<'_>) -> Result<Vec<String>, ConfigError> {
    let key = "registry.url";
    let text = read.text(key)?;
    // Where there is an @, there is a password, most likely, however the rest is misspelt: never printed.
    let refused = |must: String| match text.contains('@') {
        false => read.invalid(key, must),
        true => ConfigError::Invalid {
            key: key.to_owned(),
            value: "\"(hidden)\"".to_owned(),
            origin: read.setting(key).origin.clone(),
            must: format!("{must}; without a login in it: that is registry.username and registry.password"),
        },
    };
    let mut urls = Vec::new();
    for url in text.split(',').map(str::trim).filter(|_| !text.trim().is_empty()) {
        if !is_url(url) || urls.len() == URLS_MAX {
            return Err(refused(format!(
                "http:// or https://, a host and the path of its API, such as \"http://apicurio:8080/apis/ccompat/v7\"; up to \
                 {URLS_MAX}, separated by commas"
            )));
        }
        urls.push(url.trim_end_matches('/').to_owned());
    }
    Ok(urls)
}

/// Of a host that is not asked with a login in its address.
pub(super) fn is_url(url: &str) -> bool {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let authority = rest.map(|rest| rest.split('/').next().unwrap_or_default()).unwrap_or_default();
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '"' | '<' | '>' | '\\' | '^' | '`');
    is_host_and_maybe_port(authority) && !authority.contains('@') && url.chars().all(plain)
}

fn is_host_and_maybe_port(authority: &str) -> bool {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !authority.ends_with(']') => (host, Some(port)),
        Some(_) | None => (authority, None),
    };
    !host.is_empty() && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn login(read: &Reader<'_>) -> Result<Option<Login>, ConfigError> {
    let (username, password) = (read.text("registry.username")?, read.text("registry.password")?);
    match (username, password) {
        ("", "") => Ok(None),
        ("", _) => Err(read.invalid("registry.password", "empty while registry.username is empty")),
        (name, _) if name.contains(':') || name.chars().any(char::is_control) => {
            Err(read.invalid("registry.username", "a name without a colon and control characters"))
        }
        (username, password) => Ok(Some(Login { username: username.to_owned(), password: password.to_owned() })),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Encoding, Layers};

    #[test]
    fn a_schema_registry() {
        let load = |sets: &[&str]| {
            let sets = sets.iter().map(|set| (*set).to_owned()).collect();
            Config::load(&Layers { sets, ..Layers::default() })
        };
        let refused = |sets: &[&str]| load(sets).unwrap_err().to_string();
        assert_eq!(load(&[]).unwrap().registry, None);
        let said = refused(&["encoding=confluent"]);
        assert!(said.contains(r#"must be "json" or "avro" while registry.url is empty"#), "{said}");

        let url = "registry.url=https://one/apis/ccompat/v7/, http://[::1]:8081";
        let login = ["registry.username=dce", "registry.password=s:3cret"];
        let config =
            load(&[url, login[0], login[1], "encoding=confluent", "registry.subject_strategy=record_name"]).unwrap();
        assert_eq!(config.encoding, Encoding::Confluent);
        assert!(!format!("{config:?}").contains("s:3cret"), "never printed");
        let registry = config.registry.unwrap();
        assert_eq!(registry.urls, ["https://one/apis/ccompat/v7", "http://[::1]:8081"]);
        assert_eq!(registry.login.unwrap().password, "s:3cret");
        assert_eq!(registry.subject_strategy.subject("t", "a.R"), "a.R");

        let six = format!("registry.url={}", ["http://a"; 6].join(","));
        for wrong in
            ["registry.url=one:8081", "registry.url=ftp://one", "registry.url=http://", "registry.url=http://a:x", &six]
        {
            assert!(refused(&[wrong]).contains("a host and the path of its API"), "{wrong}");
        }
        for wrong in [
            "http://dce:s3cret@one",
            "dce:s3cret@one:8081",
            "HTTPS://dce:s3cret@one",
            "htp://dce:s3cret@one",
            "http://one, dce:s3cret@two",
            "http://dce:s3cret,@one",
            "http://dce:s3/cret@one",
            "http://dce:s3cret?@one",
        ] {
            let said = refused(&[&format!("registry.url={wrong}")]);
            assert!(said.contains("registry.username and registry.password"), "{said}");
            assert!(!said.contains("s3") && said.contains("(hidden)"), "{said}");
        }
        let said = refused(&["registry.password=s3cret"]);
        assert!(said.contains("while registry.username is empty") && !said.contains("s3cret"), "{said}");
        assert!(refused(&["registry.timeout=11s"]).contains("at most 10s"));
        assert!(refused(&["registry.timeout=0ms"]).contains("100ms or more"));
        assert!(refused(&["registry.register=1"]).contains("true or false"));
        assert!(refused(&["registry.subject_strategy=topic"]).contains("topic_record_name"));
    }
}
