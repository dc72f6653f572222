//! The steps, in their order.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use serde_json::Value;

use crate::Failure;
use crate::place::{CHECKOUT, Place};
use crate::tell::{result, say, time};
use crate::watch::{Seen, Watch};

/// Tells it all.
pub(crate) fn tell(place: &mut Place) -> Result<(), Failure> {
    start(place)?;
    enrol(place)?;
    let file = place
        .runtime()
        .join("services/myorg/com.example.uplink/uplink/myCloudServiceCred");
    publish(place, &file)?;
    rotate(place, &file)?;
    explain(place)?;
    withdraw(place, &file)
}

fn start(place: &mut Place) -> Result<(), Failure> {
    say("A hub in a temporary place: its certificate authority, its keys, its database.");
    let dir = place.path("hub");
    let dir = dir.to_str().ok_or("a path that is no text")?;
    place.hub(&[
        "init",
        "--data-dir",
        dir,
        "--org",
        "myorg",
        "--listen",
        "127.0.0.1:0",
    ])?;
    let address = place.start_hub()?;
    result(&format!("listening on {address}"));
    // Port 0 let the system choose: the operator's context is told what it chose.
    let port = address
        .rsplit_once(':')
        .map(|(_, port)| port)
        .ok_or("an address without a port")?;
    let context = place.path("hub/admin.yaml");
    let text = fs::read_to_string(&context)?;
    let patched: Vec<String> = text
        .lines()
        .map(|line| match line.strip_prefix("hub:") {
            Some(_) => format!("hub: https://127.0.0.1:{port}"),
            None => line.to_owned(),
        })
        .collect();
    fs::write(&context, patched.join("\n") + "\n")?;
    let config = serde_json::json!({
        "hub": { "url": format!("https://127.0.0.1:{port}") },
        "node": { "id": "edge-01", "policy_file": format!("{CHECKOUT}/{UPLINK}/node.policy.json") },
        "state_dir": place.path("agent"),
        "runtime_dir": place.runtime(),
        "tmpfs": { "mount": "never" },
    });
    fs::create_dir(place.path("agent"))?;
    // JSON is YAML.
    Ok(fs::write(
        place.path("agent.yaml"),
        serde_json::to_string_pretty(&config)?,
    )?)
}

fn enrol(place: &mut Place) -> Result<(), Failure> {
    say("A node: a token lets it enrol once. Its keys are made there and never leave it.");
    let token = place.operator(&["node", "token", "edge-01", "-o", "json"], b"")?;
    let token: Value = serde_json::from_str(&token)?;
    let token = token["token"].as_str().ok_or("no token")?;
    place.agent(&["enroll", "--token", "-"], token.as_bytes())?;
    place.start_agent()
}

fn publish(place: &Place, file: &Path) -> Result<(), Failure> {
    say(
        "The secret admin sets a secret. Its value comes from a file or from standard input, never from the command line.",
    );
    place.operator(
        &["secret", "set", SECRET, "--from-file", "-"],
        &credential("first"),
    )?;

    say("The developer publishes a service that declares `myCloudServiceCred`.");
    result(&place.operator(
        &["service", "publish", &format!("{UPLINK}/service.json")],
        b"",
    )?);

    say("The deployer sees which nodes would get which secrets, before anything changes.");
    let policy = format!("{UPLINK}/policy.json");
    result(&place.operator(&["policy", "publish", "uplink", &policy, "--dry-run"], b"")?);
    if file.exists() {
        return Err("a dry run has delivered something".into());
    }

    say(
        "Then the deployer publishes the policy, which binds `myCloudServiceCred` to `cloudServiceXYZSecret`.",
    );
    let watch = holds(file, "first");
    let started = Instant::now();
    let answer = place.operator(&["policy", "publish", "uplink", &policy, "-o", "json"], b"")?;
    let seen = watch.seen()?;
    result(&format!("{} is readable:", file.display()));
    result(&fs::read_to_string(file)?);
    tell_time("publish", started, seen, &answer)
}

fn rotate(place: &Place, file: &Path) -> Result<(), Failure> {
    say("The credential is rotated. All files of the service change together, by one rename.");
    let watch = holds(file, "second");
    let started = Instant::now();
    let set = ["secret", "set", SECRET, "--from-file", "-", "-o", "json"];
    let answer = place.operator(&set, &credential("second"))?;
    let seen = watch.seen()?;
    result(&fs::read_to_string(file)?);
    tell_time("set", started, seen, &answer)
}

fn explain(place: &Place) -> Result<(), Failure> {
    say("Which nodes have it, and why is it there?");
    place
        .operator(&["rollout", "uplink", "--watch"], b"")
        .map(|text| result(&text))?;
    result(&place.operator(&["explain", "edge-01"], b"")?);
    say("The same from the node's side, over a local socket:");
    result(&place.agent(&["status"], b"")?);
    Ok(())
}

fn withdraw(place: &Place, file: &Path) -> Result<(), Failure> {
    say("The deployer withdraws the policy, while somebody still has the file open.");
    let open = File::open(file)?;
    let len = usize::try_from(open.metadata()?.len())?;
    let watch = Watch::start(
        file.to_owned(),
        |path| matches!(fs::symlink_metadata(path), Err(e) if e.kind() == std::io::ErrorKind::NotFound),
    );
    let started = Instant::now();
    let answer = place.operator(&["policy", "rm", "uplink", "--yes", "-o", "json"], b"")?;
    let seen = watch.seen()?;
    result("the file is gone");
    tell_time("withdrawal", started, seen, &answer)?;
    let mut left = vec![1; len];
    let got = open.read_at(&mut left, 0)?;
    if left[..got].iter().any(|byte| *byte != 0) {
        return Err("the open file still holds the value".into());
    }
    result(&format!(
        "through the descriptor that is still open: {got} bytes, all of them zero"
    ));
    let found = holding(place.runtime(), b"edge:")?;
    if !found.is_empty() {
        return Err(format!("the value is still in {}", found.join(", ")).into());
    }
    result(&format!(
        "no file below {} holds the value",
        place.runtime().display()
    ));
    Ok(())
}

/// The time since the command was started, and since the hub had made the change durable.
fn tell_time(what: &str, started: Instant, seen: Seen, answer: &str) -> Result<(), Failure> {
    let answer: Value = serde_json::from_str(answer)?;
    let durable: Timestamp = answer["at"]
        .as_str()
        .ok_or("no time in the answer")?
        .parse()?;
    // The hub writes milliseconds: the middle of the one it names.
    let durable = SystemTime::from(durable) + Duration::from_micros(500);
    let since = seen.clock.duration_since(durable).unwrap_or_default();
    result(&format!(
        "{} after the {what} command was started (its own start, TLS and the disk included), \
         about {} ms after the hub had made it durable",
        time(seen.at.duration_since(started)),
        since.as_millis().max(1),
    ));
    Ok(())
}

fn holds(file: &Path, which: &'static str) -> Watch {
    let wanted = credential(which);
    Watch::start(file.to_owned(), move |path| {
        let read = fs::read(path)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        read.is_some() && read == serde_json::from_slice(&wanted).ok()
    })
}

/// What the sample service expects, as Open Horizon's services know it.
fn credential(which: &str) -> Vec<u8> {
    serde_json::json!({ "key": "basicauth", "value": format!("edge:{which}") })
        .to_string()
        .into_bytes()
}

/// The files below `dir` that hold `text`.
fn holding(dir: &Path, text: &[u8]) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let kind = fs::symlink_metadata(&path)?.file_type();
        if kind.is_dir() {
            found.extend(holding(&path, text)?);
        } else if kind.is_file() {
            let bytes = fs::read(&path)?;
            if bytes.windows(text.len()).any(|window| window == text) {
                found.push(path.display().to_string());
            }
        }
    }
    Ok(found)
}

const SECRET: &str = "cloudServiceXYZSecret";
/// The sample documents, in the checkout.
const UPLINK: &str = "examples/uplink";
