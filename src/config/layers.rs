//! The layers, merged: which value each setting has as written, and which layer it came from. Says no word on whether a
//! value makes sense; that a setting exists is checked here, since `deploy/default.toml` names them all.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use toml::Value;
use toml::de::{DeTable, DeValue};

use super::{ConfigError, DEFAULT_TOML, properties};

/// Tables whose keys are not ours but librdkafka's.
pub(super) const FREE_TABLES: [&str; 3] =
    ["kafka.properties", "kafka.consumer_properties", "kafka.producer_properties"];

/// What a variable of the environment begins with to be a setting.
const ENVIRONMENT_PREFIX: &str = "DCE_";

/// Everything that has a say, the weakest first; below them all lies `deploy/default.toml`.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    pub file: Option<ConfigFile>,
    /// The whole environment; what is not ours is left alone.
    pub environment: BTreeMap<String, String>,
    /// `section.key=value` of each `--set`; the later wins.
    pub sets: Vec<String>,
    /// Flags of one command that stand for settings.
    pub flags: Vec<FlagSetting>,
}

/// A configuration file's text, and what to call it.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    pub name: String,
    pub text: String,
}

impl ConfigFile {
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Self { name, text }),
            Err(source) => Err(ConfigError::Read { name, source }),
        }
    }
}

/// A flag that stands for a setting: `--gap` for `session.gap`.
#[derive(Debug, Clone)]
pub struct FlagSetting {
    pub flag: &'static str,
    pub key: &'static str,
    pub value: String,
}

/// The variables of a process as text. Those that are not text matter only where they are ours.
pub fn environment(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut environment = BTreeMap::new();
    for (name, value) in variables {
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => _ = environment.insert(name, value),
            (Ok(name), Err(_)) if name.starts_with(ENVIRONMENT_PREFIX) => {
                return Err(ConfigError::EnvironmentText { name });
            }
            (Ok(_) | Err(_), _) => {}
        }
    }
    Ok(environment)
}

/// Which layer a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    File { name: String, line: usize },
    Environment { variable: String },
    Set,
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the defaults"),
            Self::File { name, line } => write!(f, "{name}:{line}"),
            Self::Environment { variable } => write!(f, "environment {variable}"),
            Self::Set => f.write_str("--set"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// One setting as written.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// `section.key`; of a librdkafka setting `kafka.properties.` and its name.
    pub key: String,
    pub value: Value,
    pub origin: Origin,
}

impl Setting {
    /// The value as TOML, for people; passwords and keys are not shown.
    pub fn shown(&self) -> String {
        if self.is_secret() { "\"(hidden)\"".to_owned() } else { self.value.to_string() }
    }

    pub fn is_secret(&self) -> bool {
        properties::is_secret(&self.key)
    }

    /// Its table and its name in it, as TOML writes them.
    pub fn table_and_name(&self) -> (&str, String) {
        match FREE_TABLES.iter().find(|table| within(table, &self.key)) {
            Some(table) => (table, format!("{:?}", &self.key[table.len() + 1..])),
            None => match self.key.split_once('.') {
                Some((table, name)) => (table, name.to_owned()),
                None => ("", self.key.clone()),
            },
        }
    }
}

/// All settings as written, in the order of `deploy/default.toml`.
#[derive(Debug, Clone)]
pub struct Settings {
    settings: Vec<Setting>,
}

impl Settings {
    pub fn merge(layers: &Layers) -> Result<Self, ConfigError> {
        let mut merged = Self::defaults();
        if let Some(file) = &layers.file {
            for leaf in leaves_of(&file.name, &file.text)? {
                let origin = Origin::File { name: file.name.clone(), line: leaf.line };
                merged.set(leaf.key, leaf.value, origin)?;
            }
        }
        for (variable, text) in &layers.environment {
            if let Some(key) = merged.key_of_variable(variable)? {
                let value = merged.parse(&key, text);
                merged.set(key, value, Origin::Environment { variable: variable.clone() })?;
            }
        }
        for text in &layers.sets {
            let Some((key, value)) = text.split_once('=') else {
                return Err(ConfigError::SetForm { text: text.clone() });
            };
            let key = key.trim();
            let value = merged.parse(key, value.trim());
            merged.set(key.to_owned(), value, Origin::Set)?;
        }
        for FlagSetting { flag, key, value } in &layers.flags {
            let value = merged.parse(key, value);
            merged.set((*key).to_owned(), value, Origin::Flag(flag))?;
        }
        Ok(merged)
    }

    fn defaults() -> Self {
        let leaves =
            leaves_of("deploy/default.toml", DEFAULT_TOML).expect("the file is compiled in, and a test reads it");
        let settings = leaves.into_iter().filter(|leaf| !FREE_TABLES.contains(&leaf.key.as_str()));
        Self {
            settings: settings
                .map(|leaf| Setting { key: leaf.key, value: leaf.value, origin: Origin::Default })
                .collect(),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.settings.iter()
    }

    pub(super) fn get(&self, key: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.key == key)
    }

    fn set(&mut self, key: String, value: Value, origin: Origin) -> Result<(), ConfigError> {
        let setting = Setting { key, value, origin };
        if let Some(known) = self.settings.iter_mut().find(|known| known.key == setting.key) {
            *known = setting;
            return Ok(());
        }
        let free = FREE_TABLES.iter().find(|table| within(table, &setting.key));
        match free {
            Some(_) => {
                self.insert_free(setting);
                Ok(())
            }
            // A section that holds nothing says nothing, and one with a value instead of settings is no section.
            None if is_empty_table(&setting.value) && self.is_section(&setting.key) => Ok(()),
            None if self.is_section(&setting.key) => Err(ConfigError::Invalid {
                value: setting.shown(),
                must: format!("a table of settings, such as {}", self.first_within(&setting.key)),
                key: setting.key,
                origin: setting.origin,
            }),
            None => Err(ConfigError::Unknown {
                suggestion: self.nearest(&setting.key).map(|key| match setting.origin {
                    Origin::Environment { .. } => variable_of(&key),
                    Origin::Default | Origin::File { .. } | Origin::Set | Origin::Flag(_) => key,
                }),
                key: setting.key,
                origin: setting.origin,
            }),
        }
    }

    /// Each table's settings stay together, after those of `[kafka]`.
    fn insert_free(&mut self, setting: Setting) {
        let rank = |key: &str| match FREE_TABLES.iter().position(|table| within(table, key)) {
            Some(table) => Some(1 + table),
            None => within("kafka", key).then_some(0),
        };
        let before = |known: &Setting| rank(&known.key).is_some_and(|known| Some(known) <= rank(&setting.key));
        let at = self.settings.iter().rposition(before).map_or(self.settings.len(), |last| last + 1);
        self.settings.insert(at, setting);
    }

    fn is_section(&self, key: &str) -> bool {
        FREE_TABLES.contains(&key) || self.settings.iter().any(|setting| within(key, &setting.key))
    }

    fn first_within(&self, section: &str) -> String {
        let first = self.settings.iter().find(|setting| within(section, &setting.key));
        first.map_or_else(|| format!("{section}.\"client.id\""), |setting| setting.key.clone())
    }

    /// The text of a variable or an argument: TOML where that has the type of the setting, and itself otherwise.
    fn parse(&self, key: &str, text: &str) -> Value {
        let literal = Value::String(text.to_owned());
        let Some(known) = self.get(key) else { return literal };
        match text.parse::<Value>() {
            Ok(value) if value.same_type(&known.value) && !FREE_TABLES.iter().any(|table| within(table, key)) => value,
            Ok(_) | Err(_) => literal,
        }
    }

    /// The setting that a variable of the environment stands for; `None` if it is not ours. What has no `__` is ours only
    /// if it is a setting's exact name: Kubernetes makes variables such as DCE_SERVICE_HOST out of names of services.
    fn key_of_variable(&self, variable: &str) -> Result<Option<String>, ConfigError> {
        let Some(name) = variable.strip_prefix(ENVIRONMENT_PREFIX) else { return Ok(None) };
        let key = name.to_ascii_lowercase().replace("__", ".");
        for table in FREE_TABLES {
            if let Some(property) = key.strip_prefix(table).and_then(|rest| rest.strip_prefix('.')) {
                return Ok(Some(format!("{table}.{}", property.replace('_', "."))));
            }
        }
        if name.contains("__") || self.get(&key).is_some() {
            return Ok(Some(key));
        }
        let forgot_one = self.settings.iter().find(|setting| setting.key.replace('.', "_") == key);
        match forgot_one {
            Some(setting) => Err(ConfigError::Unknown {
                key,
                origin: Origin::Environment { variable: variable.to_owned() },
                suggestion: Some(variable_of(&setting.key)),
            }),
            None => Ok(None),
        }
    }

    /// The known setting that was most likely meant.
    fn nearest(&self, key: &str) -> Option<String> {
        let last = |key: &str| key.rsplit('.').next().map(str::to_owned);
        let same_name: Vec<&Setting> = self.settings.iter().filter(|setting| last(&setting.key) == last(key)).collect();
        if let [only] = same_name.as_slice() {
            return Some(only.key.clone());
        }
        let begun = self.settings.iter().find(|setting| !key.is_empty() && setting.key.starts_with(key));
        if let Some(setting) = begun {
            return Some(setting.key.clone());
        }
        let sections =
            self.settings.iter().filter_map(|setting| setting.key.split_once('.')).map(|(section, _)| section);
        let known = self.settings.iter().map(|setting| setting.key.as_str()).chain(sections).chain(FREE_TABLES);
        let (distance, nearest) = known.map(|known| (edit_distance(key, known), known)).min()?;
        (distance <= 1 + key.len() / 5).then(|| nearest.to_owned())
    }
}

/// The variable of the environment that stands for a setting.
pub fn variable_of(key: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", key.replace('.', "__").to_ascii_uppercase())
}

fn within(section: &str, key: &str) -> bool {
    key.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'))
}

fn is_empty_table(value: &Value) -> bool {
    value.as_table().is_some_and(toml::Table::is_empty)
}

struct Leaf {
    key: String,
    value: Value,
    /// From 1.
    line: usize,
}

/// What a TOML text sets, in its order; nested tables become dots, and an empty table stays one.
fn leaves_of(name: &str, text: &str) -> Result<Vec<Leaf>, ConfigError> {
    let syntax = |error: &toml::de::Error| ConfigError::Syntax {
        place: match error.span() {
            Some(span) => format!("{name}:{}", line_at(text, span.start)),
            None => name.to_owned(),
        },
        why: error.message().lines().collect::<Vec<_>>().join("; "),
    };
    let table: toml::Table = text.parse().map_err(|error| syntax(&error))?;
    let mut values = BTreeMap::new();
    flatten(table, "", &mut values);
    let spanned = DeTable::parse(text).map_err(|error| syntax(&error))?;
    let mut starts = BTreeMap::new();
    find_starts(spanned.get_ref(), "", &mut starts);
    let mut leaves: Vec<(usize, String, Value)> =
        values.into_iter().map(|(key, value)| (starts.get(&key).copied().unwrap_or(0), key, value)).collect();
    leaves.sort_by_key(|(start, ..)| *start);
    Ok(leaves.into_iter().map(|(start, key, value)| Leaf { key, value, line: line_at(text, start) }).collect())
}

fn line_at(text: &str, byte: usize) -> usize {
    1 + text.bytes().take(byte).filter(|byte| *byte == b'\n').count()
}

fn flatten(table: toml::Table, prefix: &str, leaves: &mut BTreeMap<String, Value>) {
    for (key, value) in table {
        let key = format!("{prefix}{key}");
        match value {
            Value::Table(inner) if !inner.is_empty() => flatten(inner, &format!("{key}."), leaves),
            value => _ = leaves.insert(key, value),
        }
    }
}

fn find_starts(table: &DeTable<'_>, prefix: &str, starts: &mut BTreeMap<String, usize>) {
    for (key, value) in table {
        let start = key.span().start;
        let key = format!("{prefix}{}", key.get_ref());
        if let DeValue::Table(inner) = value.get_ref() {
            find_starts(inner, &format!("{key}."), starts);
        }
        starts.insert(key, start);
    }
}

/// Damerau-Levenshtein (optimal string alignment): insertions, deletions, changes and swaps of neighbours.
fn edit_distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut rows = vec![(0..=right.len()).collect::<Vec<usize>>()];
    for (i, l) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, r) in right.iter().enumerate() {
            let change = rows[i][j] + usize::from(l != r);
            let mut best = change.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *l == right[j - 1] && left[i - 1] == *r {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}
