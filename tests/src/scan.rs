//! Looks for a value from outside: in files, and in another process's memory.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use memchr::memmem::Finder;
use nix::unistd::Pid;

use crate::Canary;

/// Looks for the shapes of some canaries.
#[derive(Debug)]
pub struct Scanner {
    needles: Vec<(&'static str, Finder<'static>)>,
    longest: usize,
}

/// What a scan saw.
#[derive(Debug, Default)]
pub struct Scan {
    /// Where something was found, and in which shape.
    pub hits: Vec<String>,
    /// How many bytes were looked at.
    pub bytes: u64,
}

impl Scanner {
    /// Looks for these.
    #[must_use]
    pub fn new(canaries: &[&Canary]) -> Self {
        let needles: Vec<_> = canaries
            .iter()
            .flat_map(|canary| canary.needles())
            .collect();
        Self {
            longest: needles
                .iter()
                .map(|n| n.bytes.len())
                .max()
                .unwrap_or_default(),
            needles: needles
                .iter()
                .map(|n| (n.shape, Finder::new(&n.bytes).into_owned()))
                .collect(),
        }
    }

    /// Every file below `dir`, names included. What vanishes meanwhile is passed over.
    ///
    /// # Panics
    /// When something is there and cannot be read.
    #[must_use]
    pub fn files(&self, dir: &Path) -> Scan {
        let mut scan = Scan::default();
        self.walk(dir, &mut scan);
        scan
    }

    fn walk(&self, path: &Path, scan: &mut Scan) {
        self.look(
            path.as_os_str().as_encoded_bytes(),
            &format!("the name {}", path.display()),
            scan,
        );
        let kind = match fs::symlink_metadata(path) {
            Ok(meta) => meta.file_type(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => panic!("{}: {error}", path.display()),
        };
        if kind.is_dir() {
            let entries = match fs::read_dir(path) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return,
                Err(error) => panic!("{}: {error}", path.display()),
            };
            for entry in entries {
                self.walk(&entry.expect("a readable entry").path(), scan);
            }
        } else if kind.is_file() {
            match fs::read(path) {
                Ok(bytes) => self.look(&bytes, &path.display().to_string(), scan),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }
    }

    /// The memory that a process can write. Needs root: the agent forbids it to everybody else.
    ///
    /// # Panics
    /// When the memory cannot be read at all.
    #[must_use]
    pub fn memory(&self, pid: Pid) -> Scan {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("the memory map");
        let memory = File::open(format!("/proc/{pid}/mem")).expect("the memory");
        let mut scan = Scan::default();
        for line in maps.lines() {
            let mut words = line.split_whitespace();
            let (Some(range), Some(mode)) = (words.next(), words.next()) else {
                continue;
            };
            if !mode.starts_with("rw") {
                continue;
            }
            let (start, end) = range.split_once('-').expect("a range");
            let bound = |text| u64::from_str_radix(text, 16).expect("an address");
            self.range(&memory, bound(start), bound(end), line, &mut scan);
        }
        assert!(scan.bytes > 0, "no memory of process {pid} could be read");
        scan
    }

    fn range(&self, memory: &File, start: u64, end: u64, name: &str, scan: &mut Scan) {
        let mut buffer = vec![0; WINDOW];
        let mut at = start;
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(WINDOW).min(WINDOW);
            // Device mappings and secret memory refuse: nobody can read those from outside.
            let Ok(got) = memory.read_at(&mut buffer[..wanted], at) else {
                return;
            };
            if got == 0 {
                return;
            }
            self.look(&buffer[..got], name, scan);
            if at + got as u64 >= end {
                return;
            }
            at += (got.saturating_sub(self.longest)).max(1) as u64;
        }
    }

    fn look(&self, bytes: &[u8], place: &str, scan: &mut Scan) {
        scan.bytes += bytes.len() as u64;
        for (shape, finder) in &self.needles {
            if let Some(at) = finder.find(bytes) {
                scan.hits.push(format!("{shape} in {place} at {at:#x}"));
            }
        }
    }

    /// Looks into one text.
    #[must_use]
    pub fn text(&self, mut text: impl Read, place: &str) -> Scan {
        let mut bytes = Vec::new();
        text.read_to_end(&mut bytes).expect("readable");
        let mut scan = Scan::default();
        self.look(&bytes, place, &mut scan);
        scan
    }
}

impl Scan {
    /// Demands that nothing was found, and that there was something to look at.
    ///
    /// # Panics
    /// When it is not so.
    pub fn assert_clean(&self, what: &str) {
        assert!(self.bytes > 0, "{what}: there was nothing to look at");
        assert!(
            self.hits.is_empty(),
            "{what} still holds the value:\n{}",
            self.hits.join("\n")
        );
    }
}

const WINDOW: usize = 4 * 1024 * 1024;
