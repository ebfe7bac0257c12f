//! The services over real connections: replays, races, clients that go, and processes that are
//! killed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use oncelog_http::webhook::signature;

/// One of the programs, at a free port; killed when it is dropped.
struct Program {
    child: Child,
    address: String,
}

impl Program {
    fn start(path: &str, folder: &Path, settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new(path);
        command.arg(folder).envs(settings.iter().copied()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening at http://").unwrap().to_owned();
        Self { child, address }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Writes the text, and reads the answer until the connection ends.
    fn ask(&self, text: &str) -> String {
        let mut stream = self.send(text);
        let mut answer = String::new();
        // The program may be killed meanwhile.
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    fn send(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn post(path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\
         {headers}\r\n{body}"
    )
}

fn charge(key: &str, amount: u32) -> String {
    let headers = format!(
        "authorization: Bearer a\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         idempotency-key: {key}\r\n"
    );
    post("/v1/charges", &headers, &format!("amount={amount}"))
}

#[expect(clippy::disallowed_methods, reason = "nothing here can be woken")]
fn pause(millis: u64) {
    thread::sleep(Duration::from_millis(millis));
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

fn is_replay(answer: &str) -> bool {
    answer.contains("\r\nidempotency-replayed: true\r\n")
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

const PAYMENTS: &str = env!("CARGO_BIN_EXE_payments");
const QUICK: &[(&str, &str)] = &[("WORK_MS", "1"), ("LEASE_MS", "1000")];
const SLOW: &[(&str, &str)] = &[("WORK_MS", "300"), ("LEASE_MS", "1000")];

fn charges(program: &Program) -> String {
    let get = "GET /v1/charges HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    body(&program.ask(get)).to_owned()
}

#[test]
fn a_payment_is_made_once_and_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(PAYMENTS, folder.path(), QUICK);
    let first = program.ask(&charge("\"k\"", 100));
    assert_eq!((status(&first), is_replay(&first)), ("200", false), "{first}");
    let second = program.ask(&charge("k", 100));
    assert_eq!((body(&second), is_replay(&second)), (body(&first), true), "{second}");
    assert!(second.contains("\r\nlocation: /v1/charges/ch_"));
    assert_eq!(status(&program.ask(&charge("k", 200))), "422");
    assert_eq!(status(&program.ask(&post("/v1/charges", "", "amount=1"))), "400");
    assert_eq!(charges(&program), "{\"charges\":1}");
}

#[test]
fn fifty_payments_at_once_with_one_key_are_one() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(PAYMENTS, folder.path(), SLOW);
    let ask = || program.ask(&charge("k", 100));
    let answers: Vec<String> = thread::scope(|scope| {
        let threads: Vec<_> = (0..50).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let (refused, answered): (Vec<_>, Vec<_>) =
        answers.iter().partition(|answer| status(answer) == "409");
    assert!(answered.iter().all(|answer| status(answer) == "200"));
    assert_eq!(answered.iter().filter(|answer| !is_replay(answer)).count(), 1);
    assert!(refused.iter().all(|answer| answer.contains("\r\nretry-after: 1\r\n")));
    assert!(is_replay(&ask()));
    assert_eq!(charges(&program), "{\"charges\":1}");
}

#[test]
fn a_payment_whose_client_goes_is_finished() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [("WORK_MS", "2000"), ("LEASE_MS", "1000")];
    let program = Program::start(PAYMENTS, folder.path(), &settings);
    let gone = program.send(&charge("k", 100));
    pause(1000);
    drop(gone);
    let mut answer = program.ask(&charge("k", 100));
    assert_eq!(status(&answer), "409");
    while status(&answer) == "409" {
        pause(100);
        answer = program.ask(&charge("k", 100));
    }
    assert!(is_replay(&answer) && body(&answer).contains("\"attempt\":1"), "{answer}");
    assert_eq!(charges(&program), "{\"charges\":1}");
}

#[test]
fn a_process_that_is_killed_in_the_middle_leaves_one_payment() {
    let folder = tempfile::tempdir().unwrap();
    for (number, millis) in [0, 50, 150, 290, 300, 310, 350].into_iter().enumerate() {
        let mut program = Program::start(PAYMENTS, folder.path(), SLOW);
        let request = charge(&format!("k{number}"), 100);
        let stream = program.send(&request);
        pause(millis);
        program.kill();
        drop(stream);
        let program = Program::start(PAYMENTS, folder.path(), SLOW);
        let mut patience = 200;
        let mut answer = program.ask(&request);
        while status(&answer) == "409" {
            patience -= 1;
            assert!(patience > 0, "{answer}");
            pause(100);
            answer = program.ask(&request);
        }
        assert_eq!(status(&answer), "200", "{answer}");
        let again = program.ask(&request);
        assert_eq!((body(&again), is_replay(&again)), (body(&answer), true));
        assert_eq!(charges(&program), format!("{{\"charges\":{}}}", number + 1));
    }
}

#[test]
fn a_function_behind_hyper_alone_is_protected() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(env!("CARGO_BIN_EXE_bare"), folder.path(), &[]);
    let request = post("/a?b=1", "idempotency-key: k\r\n", "body");
    let first = program.ask(&request);
    assert_eq!((status(&first), body(&first)), ("200", "handled /a, 4 bytes\n"), "{first}");
    assert!(is_replay(&program.ask(&request)));
    let repeated = post("/a", "idempotency-key: k\r\nidempotency-key: k\r\n", "");
    assert_eq!(status(&program.ask(&repeated)), "400");
    // In pieces, it is the same request.
    let pieces = "POST /a?b=1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\nidempotency-key: k\r\n\
                  transfer-encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n";
    assert!(is_replay(&program.ask(pieces)));
    // Cut off, it is none.
    let cut = post("/a", "idempotency-key: l\r\n", "body").replace("length: 4", "length: 9");
    let mut stream = program.send(&cut);
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.is_empty() || status(&answer) == "400", "{answer}");
    let bytes = program.ask(&post("/a", "idempotency-key: l\r\n", "body"));
    assert!(!is_replay(&bytes) && status(&bytes) == "200");
}

#[test]
fn an_event_is_handled_once_and_a_forged_one_never() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [("SECRET", "secret")];
    let program = Program::start(env!("CARGO_BIN_EXE_webhook"), folder.path(), &settings);
    let now = oncelog::Clock::now(&oncelog::SystemClock::new()).as_millis() / 1000;
    let event = |id: &str, sent: u64, code: &str, body: &str| {
        let headers = format!(
            "webhook-id: {id}\r\nwebhook-timestamp: {sent}\r\nwebhook-signature: {code}\r\n"
        );
        program.ask(&post("/webhook", &headers, body))
    };
    let code = signature(b"secret", "evt_1", now, b"paid");
    let first = event("evt_1", now, &code, "paid");
    assert_eq!((status(&first), body(&first)), ("200", "event 1 is handled\n"), "{first}");
    // The sender signs a repetition anew.
    let later = signature(b"secret", "evt_1", now + 1, b"paid");
    assert!(is_replay(&event("evt_1", now + 1, &later, "paid")));
    assert_eq!(status(&event("evt_2", now, &code, "paid")), "401");
    assert_eq!(status(&event("evt_1", now, &code, "more")), "401");
    let old = signature(b"secret", "evt_3", now - 600, b"paid");
    assert_eq!(status(&event("evt_3", now - 600, &old, "paid")), "401");
    let code = signature(b"secret", "evt_4", now, b"fail");
    for _ in 0..2 {
        let refused = event("evt_4", now, &code, "fail");
        assert_eq!((status(&refused), is_replay(&refused)), ("503", false));
    }
}

#[tokio::test]
async fn a_call_of_grpc_is_replayed_with_its_status() {
    use oncelog_http::greeter::greet;
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(env!("CARGO_BIN_EXE_grpc"), folder.path(), &[]);
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", program.address));
    let channel = endpoint.unwrap().connect().await.unwrap();
    let call = |key, name| greet(channel.clone(), key, name);
    let first = call("k", "ann").await.unwrap();
    assert_eq!(first.get_ref().message, "hello ann, greeting 1");
    let second = call("k", "ann").await.unwrap();
    assert_eq!(second.get_ref(), first.get_ref());
    assert_eq!(second.metadata().get("idempotency-replayed").unwrap(), "true");
    let other = call("k", "bob").await.unwrap_err();
    assert_eq!(other.code(), tonic::Code::FailedPrecondition);
    assert!(other.message().contains("key-reused"), "{other}");
    // What will not change is replayed, what may is not.
    let cases = [
        ("l", "", tonic::Code::InvalidArgument, true),
        ("m", "later", tonic::Code::Unavailable, false),
    ];
    for (key, name, code, replayed) in cases {
        let first = call(key, name).await.unwrap_err();
        let second = call(key, name).await.unwrap_err();
        assert_eq!((first.code(), second.code()), (code, code));
        assert_eq!(first.message() == second.message(), replayed, "{second}");
    }
}
