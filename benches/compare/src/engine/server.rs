//! A server that is started for one measurement, on the loopback, in a folder of its own.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;
use crate::machine::{self, Memory};

/// Longest time for a server to answer its first question.
const START_WAIT: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Lines of its log that an error shows.
const LOG_LINES: usize = 5;

/// A running server; ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where it listens, on the loopback.
    pub port: u16,
    log: PathBuf,
}

impl Server {
    /// Starts what `command` makes for a free port, and waits until `answers` does not fail.
    ///
    /// What the server prints goes to a file in `dir`, whose end is part of the error if it ends.
    pub fn start<T>(
        dir: &Path,
        command: impl FnOnce(u16) -> Command,
        answers: impl Fn(u16) -> Result<T>,
    ) -> Result<(Server, T)> {
        // Freed by the end of the statement, and taken by nobody else if it is soon asked for.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let log = dir.join("server.log");
        let file = fs::File::create(&log)?;
        let mut command = command(port);
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn();
        let child = child.map_err(|error| format!("{program} could not be started: {error}"))?;
        let mut server = Server { child, port, log };
        let begin = Instant::now();
        loop {
            match answers(port) {
                Ok(answer) => return Ok((server, answer)),
                Err(error) => {
                    let ended = server.child.try_wait()?;
                    if ended.is_none() && begin.elapsed() < START_WAIT {
                        thread::sleep(LOOK_EVERY);
                        continue;
                    }
                    let state = ended.map_or("it runs".to_owned(), |status| status.to_string());
                    let log = server.end_of_log();
                    let text = format!("{program} does not answer: {error}; {state}; {log}");
                    return Err(text.into());
                }
            }
        }
    }

    fn end_of_log(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(LOG_LINES);
        lines[from..].join(" | ")
    }

    /// What it has in memory, with the processes that it started: their own pages added up, and
    /// what they share once.
    pub fn memory(&self) -> Result<Memory> {
        let mut sum = machine::memory_of_process(self.child.id())?;
        for id in children(self.child.id())? {
            // One that has ended since takes up nothing.
            let Ok(memory) = machine::memory_of_process(id) else {
                continue;
            };
            sum.anon += memory.anon;
            sum.file = sum.file.max(memory.file);
        }
        Ok(sum)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // What it holds is deleted with its folder, so that nothing is lost by not asking politely.
        let children = children(self.child.id()).unwrap_or_default();
        let _ = self.child.kill();
        let _ = self.child.wait();
        let is_there = |id: &u32| Path::new(&format!("/proc/{id}")).exists();
        let begin = Instant::now();
        // The processes of PostgreSQL end by themselves once they miss the first one.
        while children.iter().any(is_there) && begin.elapsed() < Duration::from_secs(5) {
            thread::sleep(LOOK_EVERY);
        }
    }
}

/// The processes that a process has started.
fn children(parent: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let of = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        if of.and_then(|text| text.trim().parse().ok()) == Some(parent) {
            found.push(id);
        }
    }
    Ok(found)
}

/// What a program says of its version, or why it is not to be had.
pub fn version_of(program: &Path) -> std::result::Result<String, String> {
    let output = Command::new(program).arg("--version").output();
    let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn connect(port: u16) -> Result<TcpStream> {
        Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port))?)
    }

    #[test]
    fn a_server_that_ends_at_once_is_an_error_with_what_it_said() {
        let dir = tempfile::tempdir().unwrap();
        let command = |_| {
            let mut command = Command::new("sh");
            command.args(["-c", "echo no such option >&2; exit 3"]);
            command
        };
        let error = Server::start(dir.path(), command, connect).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("no such option") && error.contains("3"),
            "{error}"
        );
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let command = |_| Command::new("no-such-server");
        let error = Server::start(dir.path(), command, connect).unwrap_err();
        assert!(error.to_string().contains("no-such-server"), "{error}");
        assert!(version_of(Path::new("no-such-server")).is_err());
    }
}
