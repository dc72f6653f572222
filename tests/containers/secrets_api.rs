//! Services written for Open Horizon in containers, with the mounts that the agent writes.

use std::fs;
use std::path::{Path, PathBuf};

use edge_secrets_tests::podman::{IMAGE, TOOLS_IMAGE};
use edge_secrets_tests::secrets_api::ApiClient;
use edge_secrets_tests::{ORG, wait};
use tempfile::TempDir;

use crate::Named;
use crate::edge::{CONSUMER, Edge, NAME, REFERENCE, URL};

pub(crate) fn trials() -> Vec<Named> {
    crate::trials![
        a_service_written_for_open_horizon_runs_as_it_is,
        a_raw_value_has_its_key_over_the_api_and_dockers_arguments_work,
        a_container_of_another_user_needs_to_be_the_owner,
    ]
}

fn a_service_written_for_open_horizon_runs_as_it_is() {
    let mut scene = Scene::deployed("json", "");
    scene.start_hello();
    scene.await_said("edge-01 says: Hello one (file)!");
    scene.set("two");
    scene.await_said("Hello who two!");
    // Quicker than it looks: the last one is what counts, and it is not missed.
    for value in ["three", "four", "five"] {
        scene.set(value);
    }
    scene.await_said("Hello who five!");
    let client = ApiClient::of(&scene.door());
    wait::until(&scene.log(), "all is acknowledged", || {
        client.updated().is_empty()
    });
    // Neither the container nor what it has read is touched by a restart of the agent.
    let process = scene.edge.podman.process(CONSUMER);
    scene.edge.agent.kill();
    scene.edge.agent.run();
    scene.edge.agent.await_hub("connected");
    scene.set("six");
    scene.await_said("Hello who six!");
    assert_eq!(scene.edge.podman.process(CONSUMER), process);
    let said = fs::read_to_string(scene.log()).expect("the log");
    assert!(!said.contains("Error"), "{said}");
    // The token stands in the file alone.
    let inspected = scene.edge.podman.inspect(CONSUMER).to_string();
    assert!(inspected.contains("HZN_ESS_AUTH=/ess-auth/auth.json"));
    assert!(!inspected.contains(&client.token));

    scene.edge.undeploy();
    wait::empty(&scene.door());
    let left = scene.edge.podman.exec(
        CONSUMER,
        "ls -A /ess-auth /var/run/horizon /open-horizon-secrets",
    );
    let listed = left
        .stdout
        .lines()
        .any(|line| line.contains("auth.json") || line.contains(NAME));
    assert!(!listed, "{left:?}");
}

fn a_raw_value_has_its_key_over_the_api_and_dockers_arguments_work() {
    let scene = Scene::deployed("value_only", "");
    let script = format!(
        "cat /open-horizon-secrets/{NAME}; echo; curl --silent --cacert $HZN_ESS_CERT \
         --unix-socket $HZN_ESS_API_ADDRESS \
         --user \"$(jq -r .id $HZN_ESS_AUTH):$(jq -r .token $HZN_ESS_AUTH)\" \
         https://localhost/api/v1/secrets/{NAME}"
    );
    for engine in ["podman", "docker"] {
        let arguments = scene.arguments(engine);
        let mut args = vec!["--rm"];
        args.extend(arguments.iter().map(String::as_str));
        args.extend([TOOLS_IMAGE, "sh", "-c", &script]);
        let ended = scene.edge.podman.run(&args);
        let wanted = "one\n{\"key\":\"who\",\"value\":\"one\"}";
        assert_eq!(
            (ended.code, &*ended.stdout),
            (0, wanted),
            "{engine}: {ended:?}"
        );
    }
}

fn a_container_of_another_user_needs_to_be_the_owner() {
    let scene = Scene::deployed("json", "owner: 1234\ngroup: 1234\n");
    let arguments = scene.arguments("podman");
    let script = "cat /ess-auth/auth.json > /dev/null && curl --silent --output /dev/null \
                  --write-out '%{http_code}' --cacert $HZN_ESS_CERT \
                  --unix-socket $HZN_ESS_API_ADDRESS \
                  --user \"$(jq -r .id $HZN_ESS_AUTH):$(jq -r .token $HZN_ESS_AUTH)\" \
                  https://localhost/api/v1/secrets";
    let run = |user: &str, script: &str| {
        let mut args = vec!["--rm", "--user", user];
        args.extend(arguments.iter().map(String::as_str));
        args.extend([TOOLS_IMAGE, "sh", "-c", script]);
        scene.edge.podman.run(&args)
    };
    let own = run("1234:1234", script);
    assert_eq!((own.code, &*own.stdout), (0, "404"), "{own:?}");
    let other = run("4321:4321", script);
    assert_ne!(other.code, 0, "{other:?}");
    assert!(other.stderr.contains("Permission denied"), "{other:?}");
    // Nor does another one reach the socket, whatever it knows.
    let knock = "curl --silent --cacert $HZN_ESS_CERT --unix-socket $HZN_ESS_API_ADDRESS \
                 https://localhost/api/v1/secrets";
    assert_eq!(run("4321:4321", knock).code, 7, "curl could not connect");
    // The certificate and the environment are no secret, the agent's own files are not there at all.
    let shown = run("4321:4321", "cat /ess-cert/cert.pem; ls /ess-cert");
    assert!(shown.stdout.contains("BEGIN CERTIFICATE"), "{shown:?}");
    assert!(!shown.stdout.contains("key"), "{shown:?}");
    let hidden = run("1234:1234", "ls /open-horizon-secrets/..data/..api");
    assert_ne!(hidden.code, 0, "{hidden:?}");
    // A container without these mounts is as before.
    let mount = scene.edge.mount();
    let plain = scene.edge.podman.run(&["--rm", &mount, IMAGE, "ls", "/"]);
    assert!(!plain.stdout.contains("ess-auth"), "{plain:?}");
}

/// A node with the service, a secret of Open Horizon's shape, and an API.
struct Scene {
    edge: Edge,
    place: TempDir,
}

impl Scene {
    fn deployed(format: &str, rest: &str) -> Self {
        let profile = format!("service: {ORG}/{URL}\nsecrets_api: true\n{rest}");
        let edge = Edge::with_profile(Some(&profile));
        edge.podman.import_tools();
        let place = tempfile::tempdir().expect("a place");
        edge.publish("replaced below", format);
        let scene = Self { edge, place };
        scene.set("one");
        scene.edge.deploy();
        scene.edge.agent.await_service(URL);
        wait::there(&scene.door().join("essapi.sock"));
        scene
    }

    /// Sets key and value.
    fn set(&self, value: &str) {
        let fields = [("key", "who"), ("value", value)].map(|(name, text)| {
            let path = self.place.path().join(name);
            fs::write(&path, text).expect("written");
            format!("{name}={}", path.display())
        });
        let [key, value] = &fields;
        let set = [
            "secret",
            "set",
            REFERENCE,
            "--field-file",
            key,
            "--field-file",
            value,
        ];
        self.edge.hub.operator().ok(&set, "");
    }

    /// What the agent writes for an engine, as a shell splits it.
    fn arguments(&self, engine: &str) -> Vec<String> {
        let ended = self.edge.agent.ended(&["mounts", URL, "--for", engine]);
        assert_eq!(ended.code, 0, "{ended:?}");
        ended.stdout.split_whitespace().map(str::to_owned).collect()
    }

    /// Starts the service with its script, which writes to the log.
    fn start_hello(&self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("containers/hello-secret.sh");
        let script = format!("--volume={}:/hello-secret.sh:ro", script.display());
        let log = format!("--log-opt=path={}", self.log().display());
        let arguments = self.arguments("podman");
        let mut args = vec!["--log-driver=k8s-file", &log, &script];
        args.extend(arguments.iter().map(String::as_str));
        args.extend([TOOLS_IMAGE, "sh", "/hello-secret.sh", NAME]);
        self.edge.podman.start(CONSUMER, &args);
    }

    fn await_said(&self, text: &str) {
        wait::until(&self.log(), text, || {
            fs::read_to_string(self.log()).is_ok_and(|said| said.contains(text))
        });
    }

    fn log(&self) -> PathBuf {
        self.place.path().join("hello.log")
    }

    /// What is mounted for the API.
    fn door(&self) -> PathBuf {
        let dir = self.edge.agent.runtime_dir().join("ess").join(ORG);
        dir.join(URL).join(CONSUMER)
    }
}
