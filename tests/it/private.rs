//! Keys and outcomes stay with their owner: rights of files, links, core dumps, texts.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use oncelog::{
    Answers, Begin, BeginOptions, Check, CheckOptions, Error, Fingerprint, Lookups, Policy, Scan,
    Scope, Store, Version, inspect,
};

use crate::setup::{directory, files, small};

/// Names the directory that [`a_store_is_made_under_the_umask_of_the_process`] fills.
const MASKED: &str = "ONCELOG_TEST_UMASK";

/// Bytes that no text may show, as text and as lists of numbers.
const MARK: &str = "Zq7Xw-secret";

fn shows_mark(text: &str) -> bool {
    let bytes = MARK.as_bytes();
    let decimal: Vec<String> = bytes.iter().map(u8::to_string).collect();
    let hexadecimal: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let hidden =
        [decimal.join(", "), decimal.join(","), hexadecimal.join(""), hexadecimal.join(" ")];
    // Whole words of it, in either order of bytes.
    let word: [u8; 8] = bytes[..8].try_into().unwrap();
    let words =
        [u64::from_le_bytes(word).to_string(), u64::from_le_bytes(word).swap_bytes().to_string()];
    let text = text.replace('\n', "").replace("    ", " ").to_lowercase();
    hidden.iter().chain(&words).any(|hidden| text.contains(hidden.as_str()))
        || text.contains(&MARK.to_lowercase())
}

#[test]
fn files_are_their_owners_alone_whatever_the_umask() {
    for umask in ["0000", "0777", "0277"] {
        let directory = directory();
        let path = directory.path().join("above/store");
        let output = Command::new("sh")
            .args(["-c", "umask $0; exec \"$@\"", umask])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "private::a_store_is_made_under_the_umask_of_the_process"])
            .arg("--nocapture")
            .env(MASKED, &path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o700, 0o700), "{umask}");
        let files = files(&path, "");
        assert!(files.len() >= 8, "{files:?}");
        for file in files {
            assert_eq!(mode(&file), 0o600, "{umask}: {}", file.display());
        }
    }
}

/// Does nothing unless another test runs it in a process of its own.
#[test]
fn a_store_is_made_under_the_umask_of_the_process() {
    let Some(path) = std::env::var_os(MASKED) else { return };
    let store = small().open(&path).unwrap();
    store.insert("a").unwrap();
    store.close().unwrap();
    let run = files(Path::new(&path), ".run")[0].clone();
    fs::write(&run, "damage").unwrap();
    let report = Store::salvage(&path).unwrap();
    assert!(!report.is_sound());
    // The file that this test has written has the rights that the umask left.
    fs::set_permissions(run.with_extension("run.damaged-0001"), fs::Permissions::from_mode(0o600))
        .unwrap();
    let store = small().open(&path).unwrap();
    store.insert("b").unwrap();
    drop(store);
}

#[test]
fn no_link_is_followed_wherever_a_file_of_the_store_is_expected() {
    for name in ["LOCK", "STORE", "MANIFEST", ".seg", ".run", "MANIFEST.unfinished"] {
        let (directory, outside) = (directory(), directory());
        let store = small().open(directory.path()).unwrap();
        store.insert("a").unwrap();
        store.close().unwrap();
        let found = files(directory.path(), name);
        let path = found.first().cloned().unwrap_or_else(|| directory.path().join(name));
        let target = outside.path().join("target");
        if path.exists() {
            fs::rename(&path, &target).unwrap();
        } else {
            fs::write(&target, "of somebody else").unwrap();
        }
        let before = fs::read(&target).unwrap();
        symlink(&target, &path).unwrap();
        let refused = small().open(directory.path());
        let error = refused.err().unwrap_or_else(|| panic!("{name} was followed"));
        assert!(matches!(error, Error::Io { .. } | Error::NotAStore { .. }), "{name}: {error}");
        let verified = inspect::verify(directory.path());
        let inert = ["LOCK", "MANIFEST.unfinished"].contains(&name);
        assert!(inert || verified.is_err() || !verified.unwrap().is_sound(), "{name}");
        let _ = small().salvage(directory.path());
        assert_eq!(fs::read(&target).unwrap(), before, "{name}");
        assert!(fs::symlink_metadata(&target).unwrap().is_file(), "{name}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn memory_with_records_is_left_out_of_core_dumps() {
    let directory = directory();
    let store = small().open(directory.path()).unwrap();
    store.insert("a").unwrap();
    let maps = fs::read_to_string("/proc/self/smaps").unwrap();
    let name = directory.path().to_string_lossy().into_owned();
    let mut inside = false;
    let (mut segments, mut dumped) = (0, Vec::new());
    for line in maps.lines() {
        let first = line.split(' ').next().unwrap_or_default();
        if first.contains('-') && !first.ends_with(':') {
            inside = line.contains(&name) && line.contains(".seg");
            segments += u32::from(inside);
        } else if inside && line.starts_with("VmFlags:") && !line.split(' ').any(|f| f == "dd") {
            dumped.push(line.to_owned());
        }
    }
    assert!(segments > 0, "no segment is mapped");
    assert!(dumped.is_empty(), "{dumped:?}");
}

#[test]
fn no_key_and_no_outcome_shows_in_what_is_printed_of_a_value() {
    let directory = directory();
    let store = small().key_bytes_max(64).outcome_bytes_max(64).open(directory.path()).unwrap();
    let mut texts: Vec<String> = Vec::new();
    let mut print = |value: &dyn std::fmt::Debug| {
        texts.push(format!("{value:?}"));
        texts.push(format!("{value:#?}"));
    };
    let key = |number: u32| format!("{MARK} key {number}");
    let outcome = format!("{MARK} outcome");
    print(&small());
    print(&store);
    let check = store.check_and_set(key(1), &outcome).unwrap();
    assert!(check.is_new());
    print(&check);
    let duplicate = store.check_and_set(key(1), "").unwrap();
    assert!(
        matches!(&duplicate, Check::Duplicate(record) if record.outcome() == outcome.as_bytes())
    );
    print(&duplicate);
    print(&store.get(key(1)));
    print(&store.peek(key(1)));
    let (mut answers, mut lookups) = (Answers::new(), Lookups::new());
    store.check_and_set_many(&[(key(1), &outcome), (key(2), &outcome)], &mut answers).unwrap();
    store.get_many(&[key(1), key(3)], &mut lookups).unwrap();
    answers.iter().for_each(|answer| print(&answer));
    print(&answers);
    print(&lookups);
    let options = BeginOptions::new().fingerprint(Fingerprint::of(MARK.as_bytes()));
    print(&options);
    print(&CheckOptions::new());
    print(&Fingerprint::of(MARK.as_bytes()));
    let space = store.namespace(MARK.to_lowercase().as_str(), Policy::default());
    // A namespace's name is no key; what it prints of its keys is what counts.
    print(&space.as_ref().map(|space| space.stats()));
    let begun = store.begin_with(key(4), options).unwrap();
    print(&begun);
    print(&store.begin(key(4)));
    print(&store.peek(key(4)));
    let Begin::Started(mut lease) = begun else { panic!("not started") };
    let version = lease.version();
    lease.checkpoint(&outcome, std::time::Duration::from_secs(60)).unwrap();
    print(&lease);
    print(&store.scan(Scan::new()));
    lease.complete(&outcome).unwrap();
    print(&store.begin(key(4)));
    print(&Scope::new().tenant(MARK).operation(MARK));
    print(&store.stats());
    print(&store.recovery());
    print(&inspect::verify(directory.path()));
    for error in refusals(&store, key(1), version) {
        print(&error);
        print(&error.to_string());
    }
    store.close().unwrap();
    let segment = &files(directory.path(), ".seg")[0];
    let mut bytes = fs::read(segment).unwrap();
    bytes[4096 + 64 + 40] ^= 1;
    fs::write(segment, bytes).unwrap();
    let plan = small().salvage_plan(directory.path()).unwrap();
    assert!(!plan.is_sound());
    print(&plan);
    print(&plan.to_string());
    print(&small().open(directory.path()).unwrap().get(key(1)));
    assert!(texts.len() > 60);
    texts.iter().for_each(|text| assert!(!shows_mark(text), "{text}"));
}

/// One error for each way in which a key or an outcome can be at fault.
fn refusals(store: &Store, key: String, version: Version) -> [Error; 4] {
    [
        store.check_and_set(MARK.repeat(20), "").err().unwrap(),
        store.check_and_set(format!("{key} {key}"), MARK.repeat(20)).err().unwrap(),
        store.insert("").err().unwrap(),
        store.complete_by(key, version, MARK).err().unwrap(),
    ]
}

#[test]
fn what_shows_a_key_would_be_noticed() {
    let word = u64::from_le_bytes(MARK.as_bytes()[..8].try_into().unwrap());
    for text in [format!("{MARK:?}"), format!("{:?}", MARK.as_bytes()), format!("[{word}]")] {
        assert!(shows_mark(&text), "{text}");
    }
    assert!(shows_mark(&format!("{:#?}", MARK.as_bytes())));
}
