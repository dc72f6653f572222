//! A service that reads all the time, and checks every read.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

/// Reads until it is told to stop or sees something wrong.
#[derive(Debug)]
pub struct Reader {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Reads, String>>>,
}

/// What a reader did.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reads {
    /// Reads of all names through one `..data` that were checked.
    pub whole: u64,
    /// Reads that found their generation already replaced and gone, and began again.
    pub overtaken: u64,
    /// Times that the content was another than the time before.
    pub changes: u64,
}

impl Reader {
    /// Reads `names` in a consumer's directory, all through one `..data`, and by their own path;
    /// `check` says what is wrong with the contents.
    pub fn start(
        dir: &Path,
        names: &[&str],
        check: impl Fn(&[Vec<u8>]) -> Result<(), String> + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let dir = dir.to_owned();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let thread = thread::spawn(move || {
            let mut reads = Reads::default();
            let mut before = Vec::new();
            // Once more after it was told to stop: what was there then counts.
            let mut last = false;
            while !last {
                last = stopped.load(Ordering::Relaxed);
                let Some(contents) = through_one_generation(&dir, &names)? else {
                    reads.overtaken += 1;
                    continue;
                };
                check(&contents)?;
                for (name, content) in names.iter().zip(&contents) {
                    if content.is_empty() || content.iter().all(|byte| *byte == 0) {
                        return Err(format!("{name} was empty or wiped under the reader"));
                    }
                }
                reads.whole += 1;
                if before != contents {
                    reads.changes += 1;
                    before = contents;
                }
                by_path(&dir, &names, &check)?;
            }
            Ok(reads)
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// Stops it and gives what it did.
    ///
    /// # Panics
    /// When a read was wrong.
    pub fn finish(mut self) -> Reads {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("a thread");
        match thread.join().expect("the reader ends") {
            Ok(reads) => reads,
            Err(wrong) => panic!("a read was wrong: {wrong}"),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Opens `..data` once and reads every name through it. `None` when that generation went meanwhile.
fn through_one_generation(dir: &Path, names: &[String]) -> Result<Option<Vec<Vec<u8>>>, String> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let data: PathBuf = dir.join("..data");
    let data = open(&data, flags | OFlag::O_PATH, Mode::empty())
        .map_err(|error| format!("{}: {error}", data.display()))?;
    let mut contents = Vec::with_capacity(names.len());
    for name in names {
        let file = openat(
            data.as_fd(),
            name.as_str(),
            OFlag::O_RDONLY | OFlag::O_CLOEXEC,
            Mode::empty(),
        );
        let mut file = match file {
            Ok(file) => File::from(file),
            Err(nix::Error::ENOENT) => return Ok(None),
            Err(error) => return Err(format!("{name}: {error}")),
        };
        let mut content = Vec::new();
        file.read_to_end(&mut content)
            .map_err(|error| format!("{name}: {error}"))?;
        contents.push(content);
    }
    Ok(Some(contents))
}

/// Opens every name by its own path, as most services do: always there, always whole.
fn by_path(
    dir: &Path,
    names: &[String],
    check: &impl Fn(&[Vec<u8>]) -> Result<(), String>,
) -> Result<(), String> {
    for name in names {
        // A path walk may cross a swap and find the generation it had entered gone: that is the
        // kernel's walk, not a missing file, and services open again.
        let mut tries = 0;
        let content = loop {
            match std::fs::read(dir.join(name)) {
                Ok(content) => break content,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && tries < 3 => {
                    tries += 1
                }
                Err(error) => return Err(format!("{name} by its path: {error}")),
            }
        };
        check(std::slice::from_ref(&content)).map_err(|wrong| format!("by path: {wrong}"))?;
    }
    Ok(())
}

/// A value of `len` bytes that says which change it belongs to, all over.
#[must_use]
pub fn stamped(change: u64, len: usize) -> Vec<u8> {
    let stamp = format!("<{change:014x}>");
    stamp.bytes().cycle().take(len).collect()
}

/// Reads what [`stamped`] wrote.
///
/// # Errors
/// When it is cut or mixed.
pub fn stamp(content: &[u8], len: usize) -> Result<u64, String> {
    let change = content
        .get(1..15)
        .and_then(|text| u64::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok());
    match change {
        Some(change) if content == stamped(change, len) => Ok(change),
        _ => Err(format!(
            "{} bytes instead of {len}, cut or mixed",
            content.len()
        )),
    }
}
