//! The commands around backups: from their arguments to what they say.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use data_encoding::{BASE64, HEXLOWER};
use edge_secrets_protocol::{PublicKey, SealingKey, Secret};
use zeroize::Zeroizing;

use super::{BackupError, Lock, Target, Unlock, Whole, check, create, restore};
use crate::cli::{Backup, Restore};
use crate::managers::credential;

/// Makes a backup. What it gives is for people, and never for standard output if that has the backup.
///
/// # Errors
/// As [`create`].
pub async fn backup(wanted: &Backup) -> Result<String, BackupError> {
    let lock = match (&wanted.passphrase_file, &wanted.recipient) {
        (Some(file), _) => Lock::Passphrase(passphrase(file)?),
        (None, Some(file)) => Lock::Recipient(recipient(file)?),
        (None, None) => return Err(BackupError::Key("none is given".into())),
    };
    let target = match wanted.out.as_os_str() == "-" {
        true => Target::Stdout,
        false => Target::File(wanted.out.clone()),
    };
    let made = create(&wanted.config, target, lock).await?;
    let mut text = listed(&made.files);
    writeln!(
        text,
        "Of the hub whose CA has the SHA-256 {}",
        HEXLOWER.encode(&made.ca)
    )
    .ok();
    for (what, names) in [
        ("Not in it, being no files of the hub", &made.left_out),
        ("Not in it, lying elsewhere", &made.elsewhere),
    ] {
        if !names.is_empty() {
            writeln!(text, "{what}: {}", names.join(", ")).ok();
        }
    }
    text.push_str(
        "Keep what opens it apart from it, and try it: `edge-secrets-hub restore --check`\n",
    );
    Ok(text)
}

/// Restores a backup, or looks whether it could be.
///
/// # Errors
/// As [`restore`].
pub async fn bring_back(wanted: &Restore) -> Result<String, BackupError> {
    let dash = |file: &Option<PathBuf>| file.as_ref().is_some_and(|file| file.as_os_str() == "-");
    if wanted.from.as_os_str() == "-" && (dash(&wanted.passphrase_file) || dash(&wanted.key)) {
        return Err(BackupError::Key(
            "standard input has the backup: name a file".into(),
        ));
    }
    let unlock = match (&wanted.passphrase_file, &wanted.key) {
        (Some(file), _) => Unlock::Passphrase(passphrase(file)?),
        (None, Some(file)) => Unlock::Key(own_key(file)?),
        (None, None) => return Err(BackupError::Key("none is given".into())),
    };
    let from = wanted.from.clone();
    let Some(dir) = &wanted.data_dir else {
        let Whole { made_at, files } = check(&from, unlock).await?;
        return Ok(format!(
            "Whole, made at {made_at}\n{}Its database is sound, of no newer hub, and under the master key that \
             comes with it.\n",
            listed(&files)
        ));
    };
    let brought = restore(&from, dir, unlock).await?;
    let counts = brought.restored;
    let mut text = format!(
        "Restored in {} from a backup of {}: {} nodes, {} secrets\n",
        dir.display(),
        brought.made_at,
        counts.nodes,
        counts.secrets
    );
    writeln!(
        text,
        "Its CA has the SHA-256 {}",
        HEXLOWER.encode(&brought.ca)
    )
    .ok();
    text.push_str(
        "Whoever has the public half of a recovery key can make a backup for it: compare that CA's SHA-256.\n\
         What was done since is not in it. Before it serves:\n\
         \x20 stop the hub that was there before: two of them would contradict each other\n\
         \x20 revoke again the nodes that were revoked since; users that were removed since are back\n\
         \x20 nodes that renewed their certificates since keep what they have and need a new token\n",
    );
    if counts.void_tokens > 0 {
        let count = counts.void_tokens;
        writeln!(
            text,
            "  {count} enrolment tokens that were not used are void: issue new ones"
        )
        .ok();
    }
    if !brought.elsewhere.is_empty() {
        let files = brought.elsewhere.join(", ");
        writeln!(text, "  these were not in it and must be there: {files}").ok();
    }
    if let Some(other) = &brought.other_data_dir {
        let (other, here) = (other.display(), dir.display());
        writeln!(
            text,
            "  hub.yaml says that the data is in {other}: change `data_dir` to {here}"
        )
        .ok();
    }
    Ok(text)
}

/// Makes a key for backups: the key's file, mode 0600, and its public half beside it.
///
/// # Errors
/// When a file is there already or cannot be written.
pub fn make_key(out: &Path) -> Result<String, BackupError> {
    let key = SealingKey::generate();
    let private = Zeroizing::new(BASE64.encode(key.expose()) + "\n");
    let public = format!("{}\n", String::from(key.public()));
    let mut public_file = out.as_os_str().to_owned();
    public_file.push(".pub");
    let public_file = Path::new(&public_file);
    put(out, private.as_bytes(), 0o600)?;
    put(public_file, public.as_bytes(), 0o644)?;
    Ok(format!(
        "{}: opens backups; keep it where no hub is\n{}: for `edge-secrets-hub backup --recipient`\n",
        out.display(),
        public_file.display()
    ))
}

fn put(path: &Path, bytes: &[u8], mode: u32) -> Result<(), BackupError> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Exists(path.into()),
        _ => BackupError::file(path, error),
    })
}

fn passphrase(file: &Path) -> Result<Secret, BackupError> {
    let mut words = private(file)?;
    while words.last().is_some_and(|last| b"\r\n".contains(last)) {
        words.pop();
    }
    Ok(Secret::new(std::mem::take(&mut *words)))
}

fn own_key(file: &Path) -> Result<SealingKey, BackupError> {
    let text = private(file)?;
    let unfit = || BackupError::Key(format!("{} is no key of `backup-key`", file.display()));
    let bytes = BASE64.decode(text.trim_ascii()).map_err(|_| unfit())?;
    SealingKey::from_bytes(&Zeroizing::new(bytes)).map_err(|_| unfit())
}

fn recipient(file: &Path) -> Result<PublicKey, BackupError> {
    let text = read(file)?;
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    PublicKey::try_from(text).map_err(|_| {
        let file = file.display();
        BackupError::Key(format!("{file} is no public half of a key of `backup-key`"))
    })
}

/// What nobody else may read.
fn private(file: &Path) -> Result<Zeroizing<Vec<u8>>, BackupError> {
    if file.as_os_str() != "-" && file.exists() {
        credential::expect_private(file)
            .map_err(|why| BackupError::Key(format!("{}: {why}", file.display())))?;
    }
    read(file)
}

/// At most [`MAX_KEY_FILE`] bytes.
fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, BackupError> {
    // The final capacity at once: a growing vector would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_KEY_FILE + 1));
    let limit = MAX_KEY_FILE as u64 + 1;
    let done = if file.as_os_str() == "-" {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    done.map_err(|error| BackupError::file(file, error))?;
    if bytes.len() > MAX_KEY_FILE {
        return Err(BackupError::Key(format!("{} is too large", file.display())));
    }
    Ok(bytes)
}

fn listed(files: &[(String, u64)]) -> String {
    let mut text = String::new();
    for (name, bytes) in files {
        writeln!(text, "  {name:<16} {bytes} bytes").ok();
    }
    text
}

const MAX_KEY_FILE: usize = 16 * 1024;
