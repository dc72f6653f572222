//! Finding files: what was named, and what lies below directories that were named. No link is followed
//! below them, and there are bounds on depth, number and size.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use edge_secrets_protocol::limits::MAX_ADMIN_REQUEST;
use nix::fcntl::OFlag;

use super::understand::{Left, Source};
use crate::error::Error;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Files with documents, in the order of their names.
    pub(super) sources: Vec<Source>,
    /// Every `hzn.json`, by its directory.
    pub(super) configs: BTreeMap<PathBuf, Source>,
    /// Files that were not read.
    pub(super) left: Vec<Left>,
    bytes: usize,
}

impl Found {
    /// Reads everything that these paths name.
    ///
    /// # Errors
    /// When a path is not there, a file that was named cannot be read, or it is too much altogether.
    pub(super) fn gather(paths: &[PathBuf]) -> Result<Self, Error> {
        let mut found = Self::default();
        for path in paths {
            let meta = fs::metadata(path).map_err(|error| cannot(path, &error))?;
            if meta.is_dir() {
                found.walk(path, path, 0)?;
            } else {
                found.named(path)?;
            }
        }
        found.sources.sort_by(|a, b| a.file.cmp(&b.file));
        found.sources.dedup_by(|b, a| a.file == b.file);
        Ok(found)
    }

    /// The `hzn.json` of a file's project: beside it, in `horizon` beside it, or above it up to the
    /// directory that was named.
    pub(super) fn config_of(&self, source: &Source) -> Option<&Source> {
        let own = source.file.parent()?;
        let inside = |dir: &&Path| dir.starts_with(&source.root);
        own.ancestors().take_while(inside).find_map(|dir| {
            let beside = self.configs.get(dir);
            beside.or_else(|| self.configs.get(&dir.join("horizon")))
        })
    }

    fn walk(&mut self, dir: &Path, root: &Path, depth: usize) -> Result<(), Error> {
        let entries = fs::read_dir(dir).map_err(|error| cannot(dir, &error))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| cannot(dir, &error))?;
            names.push(entry.file_name());
            if names.len() > MAX_ENTRIES {
                let reason = format!("has more than {MAX_ENTRIES} entries");
                return Err(too_much(dir, &reason));
            }
        }
        names.sort_unstable();
        for name in names {
            let path = dir.join(&name);
            if name.to_string_lossy().starts_with('.') || name == "node_modules" {
                continue;
            }
            let meta = fs::symlink_metadata(&path).map_err(|error| cannot(&path, &error))?;
            if meta.is_dir() {
                if depth == MAX_DEPTH {
                    let reason = format!("is nested deeper than {MAX_DEPTH} directories");
                    return Err(too_much(&path, &reason));
                }
                self.walk(&path, root, depth + 1)?;
            } else if is_document(&path) {
                if meta.is_file() {
                    self.below(&path, root)?;
                } else {
                    self.leave(&path, "is a link or no file, and is not followed");
                }
            }
        }
        Ok(())
    }

    fn below(&mut self, path: &Path, root: &Path) -> Result<(), Error> {
        match read(path, OFlag::O_NOFOLLOW) {
            Ok(Some(text)) => self.add(path, root, false, text),
            Ok(None) => {
                self.leave(path, "is larger than a document can be, or no UTF-8 text");
                Ok(())
            }
            Err(error) => Err(cannot(path, &error)),
        }
    }

    fn named(&mut self, path: &Path) -> Result<(), Error> {
        let root = path.parent().unwrap_or_else(|| Path::new(""));
        let text = read(path, OFlag::empty()).map_err(|error| cannot(path, &error))?;
        let Some(text) = text else {
            let reason = "is larger than a document can be, or no UTF-8 text";
            return Err(too_much(path, reason));
        };
        let beside = root.join(CONFIG);
        if !self.configs.contains_key(root) && beside != path {
            let config = read(&beside, OFlag::O_NOFOLLOW);
            if let Ok(Some(text)) = config {
                self.add(&beside, root, false, text)?;
            }
        }
        self.add(path, root, true, text)
    }

    fn add(&mut self, path: &Path, root: &Path, is_named: bool, text: String) -> Result<(), Error> {
        self.bytes += text.len();
        let number = self.sources.len() + self.configs.len() + 1;
        if self.bytes > MAX_BYTES || number > MAX_FILES {
            let reason = format!(
                "more than {MAX_FILES} files or {} MiB: import them in parts",
                MAX_BYTES >> 20
            );
            return Err(too_much(path, &reason));
        }
        let source = Source {
            file: path.to_owned(),
            root: root.to_owned(),
            is_named,
            text,
        };
        if path.file_name().is_some_and(|name| name == CONFIG) {
            let dir = path.parent().unwrap_or_else(|| Path::new(""));
            self.configs.insert(dir.to_owned(), source);
        } else {
            self.sources.push(source);
        }
        Ok(())
    }

    fn leave(&mut self, path: &Path, reason: &str) {
        self.left.push(Left {
            file: path.display().to_string(),
            kind: None,
            reason: reason.to_owned(),
        });
    }
}

/// `None` when it is too large or no text.
pub(super) fn read(path: &Path, flags: OFlag) -> io::Result<Option<String>> {
    // A pipe in a directory must not hold us up.
    let flags = (flags | OFlag::O_NONBLOCK).bits();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_ADMIN_REQUEST as u64 + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() > MAX_ADMIN_REQUEST {
        return Ok(None);
    }
    Ok(String::from_utf8(bytes).ok())
}

fn is_document(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("json" | "yaml" | "yml"))
}

fn cannot(path: &Path, error: &io::Error) -> Error {
    Error::Usage(format!("{}: {error}", path.display()))
}

fn too_much(path: &Path, reason: &str) -> Error {
    Error::Usage(format!("{}: {reason}", path.display()))
}

const CONFIG: &str = "hzn.json";
const MAX_DEPTH: usize = 16;
const MAX_ENTRIES: usize = 20_000;
const MAX_FILES: usize = 10_000;
const MAX_BYTES: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn put(dir: &Path, file: &str, text: &str) {
        let path = dir.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn files(found: &Found, root: &Path) -> Vec<String> {
        let shown = |source: &Source| {
            source
                .file
                .strip_prefix(root)
                .unwrap()
                .display()
                .to_string()
        };
        found.sources.iter().map(shown).collect()
    }

    #[test]
    fn documents_are_found_below_and_links_are_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let (root, outside) = (place.path().join("fleet"), place.path().join("outside"));
        put(&outside, "secret.json", "{}");
        for file in [
            "b/x.yaml",
            "a.json",
            "b/c/y.yml",
            "b/readme.md",
            ".git/z.json",
            "node_modules/q/z.json",
            "big.json",
        ] {
            put(&root, file, "{}");
        }
        fs::write(root.join("big.json"), " ".repeat(MAX_ADMIN_REQUEST + 1)).unwrap();
        symlink(&outside, root.join("link")).unwrap();
        symlink(outside.join("secret.json"), root.join("link.json")).unwrap();
        let found = Found::gather(&[root.clone(), root.join("a.json")]).unwrap();
        assert_eq!(files(&found, &root), ["a.json", "b/c/y.yml", "b/x.yaml"]);
        let left: Vec<_> = found
            .left
            .iter()
            .map(|left| left.file.rsplit('/').next().unwrap())
            .collect();
        assert_eq!(left, ["big.json", "link.json"]);
    }

    #[test]
    fn a_project_has_the_configuration_nearest_to_it() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path();
        for file in [
            "hzn.json",
            "a/horizon/hzn.json",
            "a/x.json",
            "a/horizon/y.json",
            "b/z.json",
        ] {
            put(root, file, "{}");
        }
        let found = Found::gather(&[root.to_owned()]).unwrap();
        let config = |file: &str| {
            let source = found
                .sources
                .iter()
                .find(|source| source.file.ends_with(file))
                .unwrap();
            let config = &found.config_of(source).unwrap().file;
            config.strip_prefix(root).unwrap().display().to_string()
        };
        assert_eq!(config("x.json"), "a/horizon/hzn.json");
        assert_eq!(config("y.json"), "a/horizon/hzn.json");
        assert_eq!(config("z.json"), "hzn.json");
        let named = Found::gather(&[root.join("a/horizon/y.json")]).unwrap();
        assert!(named.config_of(&named.sources[0]).is_some());
        assert!(named.sources[0].is_named);
    }

    #[test]
    fn what_is_not_there_or_too_deep_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let refused = |path: PathBuf| Found::gather(&[path]).unwrap_err().to_string();
        assert!(refused(place.path().join("absent")).contains("absent"));
        let deep = "d/".repeat(MAX_DEPTH + 1) + "x.json";
        put(place.path(), &deep, "{}");
        assert!(refused(place.path().to_owned()).contains("deeper"));
    }
}
