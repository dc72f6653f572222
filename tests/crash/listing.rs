//! What stands in directories, without what is different from one life to the next.

use std::fs;
use std::path::Path;

/// Every name below `dir`, sorted: random parts, numbers and digests left out, so that a node which
/// was killed can be compared with one that never was.
pub(crate) fn listing(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    walk(dir, "", &mut names);
    names.sort();
    names
}

fn walk(dir: &Path, above: &str, names: &mut Vec<String>) {
    // What goes meanwhile is looked for again by whoever waits.
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = format!("{above}/{}", plain(&name.to_string_lossy()));
        names.push(name.clone());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), &name, names);
        }
    }
}

fn plain(name: &str) -> String {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if name.starts_with("..g") {
        return "..g".to_owned();
    }
    if name.strip_prefix("identity-").is_some_and(number) {
        return "identity-N".to_owned();
    }
    match name.strip_suffix(".sealed") {
        Some(_) => "V.sealed".to_owned(),
        None => name.to_owned(),
    }
}
