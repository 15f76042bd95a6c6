//! Compares the documents with the program: configurations, links, names of tests and rooms, width
//! of lines.

use crate::support::TempDir;
use crate::support::program::Call;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Columns of a line of prose; rustfmt.toml has the same for code.
const WIDTH: usize = 100;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below the folders that have this extension.
fn files(folders: &[&str], extension: &str) -> Vec<PathBuf> {
    let mut folders: Vec<_> = folders.iter().map(|folder| root().join(folder)).collect();
    let mut found = vec![];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// Every Markdown document of the project.
fn documents() -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "md"))
        .collect();
    found.extend(files(&["docs", "benches", "tests"], "md"));
    assert!(found.len() > 15, "{found:?}");
    found
}

/// The text without its code blocks: prose, headings and tables.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !in_code && !fence
    })
}

/// The code blocks of this language, without the indentation of a list.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let opening = format!("```{language}");
    let mut lines = text.lines();
    let mut blocks = vec![];
    while let Some(first) = lines.by_ref().find(|line| line.trim() == opening) {
        let indent = first.len() - first.trim_start().len();
        let block = lines.by_ref().take_while(|line| line.trim() != "```");
        blocks.push(
            block
                .map(|line| format!("{}\n", line.get(indent..).unwrap_or("")))
                .collect(),
        );
    }
    blocks
}

/// The names of `${NAME}` in the text.
fn variables(text: &str) -> BTreeSet<&str> {
    let starts = text.split("${").skip(1);
    starts.filter_map(|rest| rest.split('}').next()).collect()
}

#[test]
fn every_configuration_in_a_document_is_accepted() {
    let mut count = 0;
    for path in documents() {
        let text = read(&path);
        let configurations = blocks(&text, "yaml")
            .into_iter()
            .filter(|block| block.lines().any(|line| line == "cameras:"));
        for configuration in configurations {
            // The files that it names.
            let dir = TempDir::new("document");
            for name in ["amqp-password", "door-password"] {
                std::fs::write(dir.path().join(name), "letters4\n").unwrap();
            }
            let here = format!("{}/", dir.path().display());
            let yaml = configuration.replace("/etc/edge-video/", &here);
            let call = Call::new(&["check"]).file("config.yaml", &yaml);
            let call = variables(&yaml)
                .into_iter()
                .fold(call, |call, name| call.env(name, "letters4"));
            let ended = call.run();
            assert_eq!(
                ended.code(),
                Some(0),
                "{}:\n{yaml}{}",
                path.display(),
                ended.stderr
            );
            count += 1;
        }
    }
    assert!(count >= 4, "{count} configurations");
}

#[test]
fn a_page_that_a_test_writes_begins_with_the_head_that_the_test_has() {
    for name in ["cameras", "faults"] {
        let head = read(&root().join(format!("tests/{name}/head.md")));
        let page = read(&root().join(format!("docs/{name}.md")));
        assert!(page.starts_with(&head), "docs/{name}.md");
    }
}

/// The name of a heading in a link, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn every_link_between_documents_leads_to_a_file_and_a_heading() {
    let (mut count, mut broken) = (0, vec![]);
    for path in documents() {
        let text = read(&path);
        for target in prose(&text).flat_map(|line| line.split("](").skip(1)) {
            let target = target.split(')').next().unwrap();
            if target.contains("://") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let to = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            let found = match heading {
                "" => to.exists(),
                heading => std::fs::read_to_string(to).is_ok_and(|there| {
                    let mut headings = prose(&there).filter(|line| line.starts_with('#'));
                    headings.any(|line| anchor(line) == heading)
                }),
            };
            if !found {
                broken.push(format!("{}: {target}", path.display()));
            }
            count += 1;
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(count > 40, "{count} links");
}

#[test]
fn every_test_that_the_architecture_names_exists() {
    let code: String = files(&["src", "tests"], "rs")
        .iter()
        .map(|file| read(file))
        .collect();
    let text = read(&root().join("ARCHITECTURE.md"));
    let words = text.split('`').skip(1).step_by(2);
    let names: BTreeSet<_> = words
        .filter(|word| word.matches('_').count() > 3)
        .filter(|word| word.chars().all(|c| c == '_' || c.is_ascii_alphanumeric()))
        .collect();
    assert!(names.len() >= 20, "{names:?}");
    for name in names {
        assert!(code.contains(&format!("fn {name}()")), "no test {name}");
    }
}

#[test]
fn every_room_is_in_the_architecture() {
    let text = read(&root().join("ARCHITECTURE.md"));
    let (_, text) = text.split_once("| room |").unwrap();
    let (rooms, _) = text.split_once("\n\n").unwrap();
    for entry in std::fs::read_dir(root().join("src")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let room = match path.extension() {
            None => format!("`{name}/`"),
            // The first file of a folder, or the list of all rooms.
            Some(_) if path.with_extension("").is_dir() || name == "lib.rs" => continue,
            Some(_) => format!("`{name}`"),
        };
        assert!(rooms.contains(&room), "no row for {room}");
    }
}

#[test]
fn prose_in_documents_has_at_most_100_columns() {
    let mut wide = vec![];
    // Tests write the bodies of two documents, with long lines of the log.
    let is_quoted = |path: &PathBuf| path.ends_with("cameras.md") || path.ends_with("faults.md");
    for path in documents().into_iter().filter(|path| !is_quoted(path)) {
        // A row of a table cannot be broken.
        let text = read(&path);
        let lines = prose(&text).filter(|line| !line.trim_start().starts_with('|'));
        wide.extend(too_wide(&path, lines));
    }
    for path in [
        "config.yaml",
        "packaging/README.Debian",
        "packaging/man/edge-video.1",
        "packaging/man/edge-video.yaml.5",
    ] {
        let path = root().join(path);
        // A request of a manual page cannot be broken.
        let text = read(&path);
        let lines = text.lines().filter(|line| !line.starts_with('.'));
        wide.extend(too_wide(&path, lines));
    }
    assert!(wide.is_empty(), "{}", wide.join("\n"));
}

/// rustfmt leaves comments as they are, except on a nightly compiler.
#[test]
fn comments_have_at_most_100_columns() {
    let mut wide = vec![];
    for path in files(&["src", "tests", "benches", "races", "packaging"], "rs") {
        let text = read(&path);
        // A row of a table cannot be broken.
        let comments = text.lines().filter(|line| {
            let line = line.trim_start();
            line.starts_with("//") && !line.trim_start_matches(['/', '!', ' ']).starts_with('|')
        });
        wide.extend(too_wide(&path, comments));
    }
    assert!(wide.is_empty(), "{}", wide.join("\n"));
}

/// `path: line` of each line that is too wide.
fn too_wide<'a>(path: &Path, lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let wide = lines.filter(|line| line.chars().count() > WIDTH);
    wide.map(|line| format!("{}: {line}", path.display()))
        .collect()
}
