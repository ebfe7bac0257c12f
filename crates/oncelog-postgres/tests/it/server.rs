//! A PostgreSQL server of the tests' own, in a temporary folder and on a free port.
//!
//! Each server is started by a shell that ends it, and removes the folder, as soon as its standard
//! input ends: when it is dropped here, or when the process of the tests ends, however that may be.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use tokio_postgres::NoTls;

/// Starts the server that its arguments name, and ends it when its input ends.
const KEEPER: &str = r#"folder=$1; shift
"$@" >>"$folder/log" 2>&1 & server=$!
cat >/dev/null
kill -QUIT "$server" 2>/dev/null; wait "$server"
rm -rf "$folder""#;
/// How long a server may take to start, also on a busy machine and after a crash.
const STARTED_WITHIN: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    bin: PathBuf,
    folder: PathBuf,
    pub(crate) port: u16,
    settings: Vec<String>,
    /// Those of servers that were killed stay until the end.
    keepers: Mutex<Vec<Child>>,
}

/// Where the server's programs are; `None` if it is not installed.
fn programs() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("postgres").exists())
        .collect();
    found.sort_by_key(|bin| {
        let version = bin.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        version.and_then(|version| version.parse::<u32>().ok())
    });
    let on_path = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path).find(|folder| folder.join("initdb").exists())
    });
    std::env::var_os("ONCELOG_POSTGRES_BIN").map(PathBuf::from).or(found.pop()).or(on_path)
}

/// True if the server is installed; says so if it is not.
pub(crate) fn is_installed() -> bool {
    let installed = programs().is_some();
    if !installed {
        eprintln!("left out: PostgreSQL is not installed (Debian package: postgresql)");
    }
    installed
}

/// The user that the server runs as, as it refuses to run as root; none if this is not root.
fn user() -> Option<&'static str> {
    let id = Command::new("id").arg("-u").output().unwrap().stdout;
    if id.trim_ascii() != b"0" {
        return None;
    }
    let known = |user: &&str| Command::new("id").arg(user).output().unwrap().status.success();
    ["postgres", "nobody"].into_iter().find(known)
}

/// The program, as that user.
fn as_user(program: &Path) -> Vec<String> {
    let mut words = Vec::new();
    if let Some(user) = user() {
        let group = Command::new("id").args(["-g", user]).output().unwrap().stdout;
        let group = String::from_utf8(group).unwrap();
        let (user, group) = (format!("--reuid={user}"), format!("--regid={}", group.trim()));
        words.extend(["setpriv".into(), user, group, "--clear-groups".into()]);
    }
    words.push(program.to_str().unwrap().into());
    words
}

fn run(words: &[String]) {
    let output = Command::new(&words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Server {
    /// A server that has nothing in it, with further settings such as `fsync=off`.
    pub(crate) async fn start(settings: &[&str]) -> Self {
        let bin = programs().unwrap();
        let folder = tempfile::Builder::new().prefix("pg").tempdir().unwrap().keep();
        if let Some(user) = user() {
            run(&["chown".into(), user.into(), folder.to_str().unwrap().into()]);
        }
        let mut initdb = as_user(&bin.join("initdb"));
        let data = folder.join("data");
        let options = ["-U", "oncelog", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"];
        initdb.extend(["-D", data.to_str().unwrap()].iter().chain(&options).map(|w| w.to_string()));
        run(&initdb);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = settings.iter().map(|setting| setting.to_string()).collect();
        let server = Self { bin, folder, port, settings, keepers: Mutex::default() };
        server.launch();
        server.wait_until_up().await;
        server
    }

    fn launch(&self) {
        let mut words = as_user(&self.bin.join("postgres"));
        let folder = self.folder.to_str().unwrap();
        words.extend(["-D".into(), format!("{folder}/data"), "-k".into(), folder.into()]);
        words.extend(["-p".into(), self.port.to_string()]);
        let fixed = ["listen_addresses=127.0.0.1", "max_connections=200"].map(String::from);
        for setting in fixed.iter().chain(&self.settings) {
            words.extend(["-c".into(), setting.clone()]);
        }
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper", folder])
            .args(&words)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        self.keepers.lock().unwrap().push(keeper);
    }

    pub(crate) async fn wait_until_up(&self) {
        let up = async {
            while tokio_postgres::connect(&self.url("postgres"), NoTls).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(STARTED_WITHIN, up).await.is_err() {
            let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            panic!("the server does not start: {log}");
        }
    }

    /// Where a database is found.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://oncelog@127.0.0.1:{}/{database}?connect_timeout=5", self.port)
    }

    /// A connection for what the tests do themselves.
    pub(crate) async fn client(&self, database: &str) -> tokio_postgres::Client {
        let (client, connection) =
            tokio_postgres::connect(&self.url(database), NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// A new, empty database; its name.
    pub(crate) async fn database(&self) -> String {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("test_{number}");
        let create = format!("CREATE DATABASE {name}");
        self.client("postgres").await.batch_execute(&create).await.unwrap();
        name
    }

    /// From now on the user has to show a password.
    pub(crate) async fn authenticate(&self, user: &str) {
        let file = self.folder.join("data/pg_hba.conf");
        let rules = fs::read_to_string(&file).unwrap();
        // Written in place: it belongs to the server's user.
        fs::write(&file, format!("host all {user} all scram-sha-256\n{rules}")).unwrap();
        let client = self.client("postgres").await;
        client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    /// The process ids of the server and of its children.
    fn processes(&self) -> Vec<String> {
        let Ok(file) = fs::read_to_string(self.folder.join("data/postmaster.pid")) else {
            return Vec::new();
        };
        let first = file.lines().next().unwrap().to_owned();
        let mut processes = vec![first.clone()];
        for entry in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
            // The name, in parentheses, may hold anything.
            let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
            if rest.split(' ').nth(1) == Some(&first) {
                processes.push(entry.file_name().to_str().unwrap().to_owned());
            }
        }
        processes
    }

    /// Kills the server and all of its processes at once, as a power cut would.
    pub(crate) fn kill(&self) {
        let processes = self.processes();
        // The first, which would start them again, goes first.
        let _ = Command::new("kill").arg("-9").args(&processes).output().unwrap();
    }

    /// Has the server's processes stand still, and go on again.
    pub(crate) fn freeze(&self, freeze: bool) {
        let signal = if freeze { "-STOP" } else { "-CONT" };
        let _ = Command::new("kill").arg(signal).args(self.processes()).output().unwrap();
    }

    /// Starts a server that was killed again, on what it has stored.
    pub(crate) async fn start_again(&self) {
        // A server that finds shared memory of the one before in use ends; then once more.
        let started = async {
            loop {
                self.launch();
                let up = self.wait_until_up();
                if tokio::time::timeout(Duration::from_secs(10), up).await.is_ok() {
                    return;
                }
            }
        };
        tokio::time::timeout(STARTED_WITHIN, started).await.unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for mut keeper in self.keepers.lock().unwrap().drain(..) {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
    }
}

/// The server that tests share which do no harm to it; each has a database of its own.
pub(crate) fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(|| {
        let started = std::thread::spawn(|| runtime().block_on(Server::start(&["fsync=off"])));
        started.join().unwrap()
    })
}

/// A runtime for one test.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}
