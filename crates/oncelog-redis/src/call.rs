//! Calls of scripts: sent, answered in time or not, and acknowledged by replicas where asked for.

use std::future::Future;
use std::time::Duration;

use oncelog::{Error, Result};
use redis::aio::ConnectionLike;
use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::time::{Instant, sleep, timeout};

use crate::answer;
use crate::connect::Connect;
use crate::script::{Naming, Script};
use crate::trouble::{self, Reach};

/// Replicas that are to acknowledge what is written before a call returns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Replicas {
    pub(crate) count: u32,
    pub(crate) timeout: Duration,
}

/// Whether a script may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Reads,
    Writes,
}

/// How calls are made.
#[derive(Debug)]
pub(crate) struct Caller<S> {
    pub(crate) source: S,
    /// How long an answer may take.
    pub(crate) timeout: Duration,
    pub(crate) replicas: Option<Replicas>,
    /// The client sends each call to the node that has its key.
    pub(crate) clustered: bool,
    /// A client for clusters sends a call again by itself if a node does not answer, so that what
    /// is answered in the end says nothing of the times before.
    pub(crate) resends: bool,
}

/// Between a refusal by a cluster that is about to change and the next try.
const RETRY_FIRST: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_millis(200);

/// How many replicas were to acknowledge what was written, and how many have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acknowledged(Option<(u32, u64)>);

impl Acknowledged {
    /// Refuses to call recorded what the primary alone has.
    ///
    /// For calls that have written: what others have written is not waited for.
    pub(crate) fn confirm(self) -> Result<()> {
        match self.0 {
            Some((asked, given)) if given < u64::from(asked) => Err(trouble::unanswered(format!(
                "it is recorded by the primary, but only {given} of {asked} replicas \
                     acknowledged it in time, so that a fail-over may forget it"
            ))),
            _ => Ok(()),
        }
    }
}

impl<S: Connect> Caller<S> {
    pub(crate) fn reach(&self) -> Reach {
        match (self.clustered, self.resends) {
            (false, _) => Reach::Sent,
            (true, false) => Reach::Routed,
            (true, true) => Reach::Resent,
        }
    }

    /// Calls a script.
    pub(crate) async fn ask(
        &self,
        script: &Script,
        command: Cmd,
        effect: Effect,
    ) -> Result<(Value, Acknowledged)> {
        let (values, acknowledged) = self.ask_each(script, vec![command], effect).await?;
        let value = values.into_iter().next();
        let value = value.unwrap_or_else(|| Err(trouble::strange("none at all")))?;
        Ok((value, acknowledged))
    }

    /// Calls a script several times; on a cluster once, as the client sends one call at a time.
    ///
    /// A node that says that it is another's turn, or nobody's yet, has done nothing: it is asked
    /// again while there is time, unless the client does that. One that did not answer is not.
    pub(crate) async fn ask_each(
        &self,
        script: &Script,
        commands: Vec<Cmd>,
        effect: Effect,
    ) -> Result<(Vec<Result<Value>>, Acknowledged)> {
        let end = Instant::now() + self.timeout;
        let mut pause = RETRY_FIRST;
        loop {
            let answer = self.ask_once(script, &commands, effect).await;
            let again = self.reach() == Reach::Routed && is_refused(&answer);
            if !again || Instant::now() + pause >= end {
                return answer;
            }
            sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    async fn ask_once(
        &self,
        script: &Script,
        commands: &[Cmd],
        effect: Effect,
    ) -> Result<(Vec<Result<Value>>, Acknowledged)> {
        let mut connection = self.connection().await?;
        let replicas = self.replicas.filter(|_| effect == Effect::Writes);
        let (mut values, mut given) = self.exchange(&mut connection, commands, replicas).await?;
        let unknown: Vec<usize> =
            (0..).zip(&values).filter(|(_, v)| is_unknown(v)).map(|(i, _)| i).collect();
        if !unknown.is_empty() {
            let whole = unknown.iter().filter_map(|index| commands.get(*index));
            let whole: Vec<Cmd> = whole.map(|command| script.with_text(command)).collect();
            let (again, acknowledged) = self.exchange(&mut connection, &whole, replicas).await?;
            given = acknowledged;
            for (index, value) in unknown.into_iter().zip(again) {
                if let Some(place) = values.get_mut(index) {
                    *place = value;
                }
            }
        }
        let reach = self.reach();
        let sorted = |value: RedisResult<Value>| value.map_err(|error| trouble::of(&error, reach));
        let given = replicas.zip(given).map(|(replicas, given)| (replicas.count, given));
        Ok((values.into_iter().map(sorted).collect(), Acknowledged(given)))
    }

    /// Sends a command that is no script, for what is asked of a server once.
    pub(crate) async fn plain(&self, command: &Cmd) -> Result<RedisResult<Value>> {
        let mut connection = self.connection().await?;
        let answer = connection.req_packed_command(command);
        let answer = timeout(self.timeout, answer).await;
        let answer = answer.map_err(|_| trouble::late(self.timeout, Reach::Before))?;
        Ok(answer.and_then(Value::extract_error))
    }

    async fn connection(&self) -> Result<S::Connection> {
        let connection = timeout(self.timeout, self.source.connection()).await;
        connection.map_err(|_| trouble::late(self.timeout, Reach::Before))?
    }

    /// Sends commands and takes their answers, and how many replicas acknowledged.
    async fn exchange(
        &self,
        connection: &mut S::Connection,
        commands: &[Cmd],
        replicas: Option<Replicas>,
    ) -> Result<(Vec<RedisResult<Value>>, Option<u64>)> {
        let (reach, clustered) = (self.reach(), self.clustered);
        let wait = replicas.map(|replicas| wait_command(&replicas));
        let time = self.timeout + replicas.map_or(Duration::ZERO, |replicas| replicas.timeout);
        let sent = async {
            match (commands, wait) {
                ([command], None) => Ok((vec![one(connection, command).await?], None)),
                // Without a key it cannot be sent together with what has one.
                ([command], Some(wait)) if clustered => {
                    let value = one(connection, command).await?;
                    Ok((vec![value], Some(one(connection, &wait).await?)))
                }
                (commands, wait) => many(connection, commands, wait).await,
            }
        };
        let (values, given) = in_time(time, reach, sent).await?;
        // Whatever stands against waiting, the call before it has been made.
        let given = given.map(|given| given.map_err(trouble::unanswered)).transpose()?;
        Ok((values, given.map(answer::number).transpose()?))
    }
}

type Values = (Vec<RedisResult<Value>>, Option<RedisResult<Value>>);

async fn in_time(
    time: Duration,
    reach: Reach,
    sent: impl Future<Output = RedisResult<Values>>,
) -> Result<Values> {
    let answer = timeout(time, sent).await.map_err(|_| trouble::late(time, reach))?;
    answer.map_err(|error| trouble::of(&error, reach))
}

/// The answer to one command, an error of the server's included; the outer error is the client's.
async fn one(
    connection: &mut impl ConnectionLike,
    command: &Cmd,
) -> RedisResult<RedisResult<Value>> {
    match connection.req_packed_command(command).await {
        Ok(value) => Ok(value.extract_error()),
        Err(error) if is_answer(&error) => Ok(Err(error)),
        Err(error) => Err(error),
    }
}

async fn many(
    connection: &mut impl ConnectionLike,
    commands: &[Cmd],
    wait: Option<Cmd>,
) -> RedisResult<Values> {
    let count = commands.len() + usize::from(wait.is_some());
    let mut pipeline = Pipeline::with_capacity(count);
    for command in commands.iter().chain(&wait) {
        pipeline.add_command(command.clone());
    }
    let values = connection.req_packed_commands(&pipeline, 0, count).await?;
    if values.len() != count {
        let error = (ErrorKind::UnexpectedReturnType, "as many answers as calls were expected");
        return Err(error.into());
    }
    let mut values: Vec<_> = values.into_iter().map(Value::extract_error).collect();
    let given = if wait.is_some() { values.pop() } else { None };
    Ok((values, given))
}

fn wait_command(replicas: &Replicas) -> Cmd {
    let mut wait = redis::cmd("WAIT");
    // Zero would mean: without end.
    let millis = u64::try_from(replicas.timeout.as_millis()).unwrap_or(u64::MAX).max(1);
    wait.arg(replicas.count).arg(millis);
    wait
}

/// True for what a server said, and not what happened on the way.
fn is_answer(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}

/// True if nothing was done, because of what will be over soon.
fn is_refused(answer: &Result<(Vec<Result<Value>>, Acknowledged)>) -> bool {
    let away = |error: &Error| matches!(error, Error::Unreachable { .. });
    match answer {
        Err(error) => away(error),
        Ok((values, _)) => values.iter().any(|value| value.as_ref().is_err_and(away)),
    }
}

/// True if the server does not know the script, and so has not run it.
fn is_unknown(value: &RedisResult<Value>) -> bool {
    let unknown = ErrorKind::Server(ServerErrorKind::NoScript);
    value.as_ref().is_err_and(|error| error.kind() == unknown)
}

impl Script {
    /// A call by the digest, with the text in its place.
    fn with_text(&self, command: &Cmd) -> Cmd {
        let mut whole = self.call(Naming::Text);
        for argument in command.args_iter().skip(2) {
            if let redis::Arg::Simple(bytes) = argument {
                whole.arg(bytes);
            }
        }
        whole
    }
}
