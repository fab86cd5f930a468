//! The picture stays true: who imports whom, what is pure, where `unsafe` and the heavy crates stand, and what no committed
//! file holds. The rules are in `rules.rs`; the checks are checked on snippets at the end.

use std::path::{Path, PathBuf};
use std::process::Command;

mod rules;
mod scan;
mod snippets;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All committed files, and new ones that are not ignored; without git, all but what is built.
fn files() -> Vec<String> {
    let git = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output();
    let listed = git.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    let mut files: Vec<String> = match listed {
        Some(stdout) => String::from_utf8(stdout).unwrap().lines().map(str::to_owned).collect(),
        None => walk(root()),
    };
    files.retain(|file| root().join(file).is_file());
    files.sort();
    assert!(files.len() > 20, "that is not the repository: {files:?}");
    files
}

fn walk(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !["target", ".git", ".venv", "__pycache__"].contains(&name.as_str()) {
            files.extend(walk(&path));
        } else if path.is_file() {
            files.push(path.strip_prefix(root()).unwrap().to_string_lossy().into_owned());
        }
    }
    files
}

/// A source file of the library or the binary.
struct Source {
    file: String,
    /// `pipeline::decode`.
    module: String,
    text: String,
}

impl Source {
    fn new(file: &str, text: &str) -> Self {
        let inside = file.strip_prefix("src/").expect("it stands in src/");
        let module = inside.trim_end_matches(".rs").trim_end_matches("/mod").replace('/', "::");
        Self { file: file.to_owned(), module, text: text.to_owned() }
    }

    /// Tests may use what they need.
    fn is_test(&self) -> bool {
        self.module.split("::").any(|name| name == "tests" || name.ends_with("_tests"))
    }

    /// The module that the rules speak of: a stage of the pipeline, or one of the library.
    fn area(&self) -> String {
        area_of(&self.module.split("::").map(str::to_owned).collect::<Vec<_>>())
    }

    fn is_in(&self, module: &str) -> bool {
        self.module == module || self.module.strip_prefix(module).is_some_and(|rest| rest.starts_with("::"))
    }
}

fn area_of(path: &[String]) -> String {
    match path {
        [pipeline, stage, ..] if pipeline == "pipeline" => format!("pipeline::{stage}"),
        [first, ..] => first.clone(),
        [] => String::new(),
    }
}

fn sources() -> Vec<Source> {
    let files = files().into_iter().filter(|file| file.starts_with("src/") && file.ends_with(".rs"));
    files.map(|file| Source::new(&file, &std::fs::read_to_string(root().join(&file)).unwrap())).collect()
}

/// The modules that a `mod.rs` or `lib.rs` lists, in its order.
fn modules_listed(text: &str) -> Vec<String> {
    let tokens = scan::tokens_of(text);
    let modules = tokens.windows(3).filter(|three| three[0].text == "mod" && three[2].text == ";");
    modules.map(|three| three[1].text.clone()).collect()
}

/// What is wrong with a file's imports. `stages` are those of the pipeline, in their order.
fn import_faults(source: &Source, stages: &[String]) -> Vec<String> {
    let area = source.area();
    if source.is_test() || rules::TOP.contains(&area.as_str()) || ["lib", "pipeline"].contains(&area.as_str()) {
        return Vec::new();
    }
    let Some((_, allowed)) = rules::IMPORTS.iter().find(|(module, _)| *module == area) else {
        return vec![format!("{}: tests/tidy/rules.rs does not say what {area} may import", source.file)];
    };
    let place = |area: &str| stages.iter().position(|stage| area == format!("pipeline::{stage}"));
    let mut faults = Vec::new();
    let module: Vec<&str> = source.module.split("::").collect();
    for named in scan::paths_of(&scan::tokens_of(&source.text), &module) {
        let target = area_of(&named.path);
        let is_earlier_stage = place(&target).zip(place(&area)).is_some_and(|(target, own)| target < own);
        let fine = !named.is_ours
            || target == area
            || is_earlier_stage
            || allowed.contains(&target.as_str())
            || allowed.contains(&named.path.first().map_or("", String::as_str))
            || rules::IMPORTS_ALLOWED.iter().any(|(from, to, _)| *from == area && *to == target);
        if !fine {
            faults.push(format!("{}:{}: {area} may not use {}", source.file, named.line, named.path.join("::")));
        }
    }
    faults
}

/// What a file names that it may not.
fn word_faults(source: &Source) -> Vec<String> {
    if source.is_test() {
        return Vec::new();
    }
    let tokens = scan::tokens_of(&source.text);
    let module: Vec<&str> = source.module.split("::").collect();
    let mut faults = Vec::new();
    let mut fault = |line: usize, what: String| faults.push(format!("{}:{line}: {what}", source.file));
    if rules::PURE.iter().any(|pure| source.is_in(pure)) {
        for token in tokens.iter().filter(|token| rules::IMPURE_WORDS.contains(&token.text.as_str())) {
            fault(token.line, format!("{} is pure and may not name {}", source.module, token.text));
        }
    }
    if !rules::UNSAFE.iter().any(|module| source.is_in(module)) {
        for token in tokens.iter().filter(|token| token.text == "unsafe") {
            fault(token.line, format!("unsafe stands in {} alone", rules::UNSAFE.join(", ")));
        }
    }
    for named in scan::paths_of(&tokens, &module).iter().filter(|named| !named.is_ours) {
        for (name, homes) in rules::CRATES {
            if named.path[0] == name && !homes.iter().any(|home| source.is_in(home)) {
                fault(named.line, format!("{name} is named in {} alone", homes.join(", ")));
            }
        }
    }
    faults
}

/// What is wrong with a file's form.
fn form_faults(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    if !source.text.starts_with("//! ") {
        faults.push(format!("{}: opens with `//! ` and what it is for", source.file));
    }
    let lines = source.text.lines().count();
    match rules::LONG_FILES.iter().find(|(file, _)| *file == source.file) {
        None if lines > rules::LINES_MAX => {
            faults.push(format!(
                "{}: {lines} lines; past {} ask what the second subject is",
                source.file,
                rules::LINES_MAX
            ));
        }
        Some(_) if lines <= rules::LINES_MAX => {
            faults.push(format!("{}: no longer long; take it from LONG_FILES", source.file));
        }
        None | Some(_) => {}
    }
    faults
}

fn text_faults(file: &str, text: &str) -> Vec<String> {
    if rules::TEXTS_ALLOWED.iter().any(|(allowed, _)| *allowed == file) {
        return Vec::new();
    }
    let mut faults = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let number = number + 1;
        // Behind something else it is a part of an address, as in Maven's name spaces.
        let is_path = |path: &str| {
            line.match_indices(path).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '.'))
        };
        if let Some(path) = rules::MACHINE_PATHS.iter().find(|path| is_path(path)) {
            faults.push(format!("{file}:{number}: {path} is a path of one machine"));
        }
        if let Some(host) = rules::REGISTRIES.iter().find(|host| line.contains(**host)) {
            faults.push(format!("{file}:{number}: {host} is for the machine's configuration to say"));
        }
    }
    faults
}

fn assert_none(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn imports_go_one_way() {
    let sources = sources();
    let pipeline = sources.iter().find(|source| source.module == "pipeline").unwrap();
    let stages = modules_listed(&pipeline.text);
    assert!(stages.len() >= 9, "{stages:?}");
    assert_none(sources.iter().flat_map(|source| import_faults(source, &stages)).collect());
}

/// So that reading `lib.rs` from top to bottom meets nothing before it is explained.
#[test]
fn modules_stand_in_reading_order() {
    let sources = sources();
    let lib = sources.iter().find(|source| source.module == "lib").unwrap();
    let order = modules_listed(&lib.text);
    let place = |module: &str| order.iter().position(|name| name == module);
    for (module, imports) in rules::IMPORTS {
        let Some(own) = place(module.split("::").next().unwrap()) else { continue };
        for import in imports {
            assert!(place(import).is_none_or(|import| import < own), "lib.rs: {import} belongs before {module}");
        }
    }
}

#[test]
fn pure_modules_and_the_homes_of_crates() {
    assert_none(sources().iter().flat_map(word_faults).collect());
}

#[test]
fn files_say_what_they_are_for_and_are_short() {
    assert_none(sources().iter().flat_map(form_faults).collect());
}

#[test]
fn no_committed_file_names_a_machine_or_a_registry() {
    let mut faults = Vec::new();
    for file in files() {
        let path: PathBuf = root().join(&file);
        // What is not text has no lines to check.
        if let Ok(text) = std::fs::read_to_string(path) {
            faults.extend(text_faults(&file, &text));
        }
    }
    assert_none(faults);
}
