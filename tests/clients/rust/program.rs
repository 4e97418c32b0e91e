//! A worker and a client on the Rust SDK: the counterpart of program.py, with the same command line and functions.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use resonate_sdk::prelude::*;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

// ── durable functions ───────────────────────────────────────────────────────────────────────────────────────
// Every SDK sends a list of arguments. This one passes it unchanged to a function of one argument, hence the tuples.

fn log_run(name: &str, id: &str) {
    println!("running function {name}  promise={id}");
}

/// Send `number` through one worker after another; each hop adds 1.
#[function]
async fn relay(ctx: &Context, groups: Vec<String>, number: i64) -> Result<i64> {
    log_run("relay", ctx.id());
    match groups.split_first() {
        None => Ok(number),
        Some((group, others)) => ctx.rpc("relay", (others, number + 1)).target(group).await,
    }
}

/// Fail at the end of the chain.
#[function]
async fn complain(ctx: &Context, groups: Vec<String>, message: String) -> Result<()> {
    log_run("complain", ctx.id());
    match groups.split_first() {
        None => Err(Error::Application { message }),
        Some((group, others)) => ctx.rpc("complain", (others, message)).target(group).await,
    }
}

#[function]
async fn add(info: &Info, left: i64, right: i64) -> Result<i64> {
    log_run("add", info.id());
    Ok(left + right)
}

/// Add up 1 to `count`, with all additions at once in workers of the group.
#[function]
async fn fan(ctx: &Context, target: String, count: i64) -> Result<i64> {
    log_run("fan", ctx.id());
    let sums = (1..=count).map(|number| ctx.rpc::<i64>("add", (number, 0)).target(&target).spawn());
    let mut total = 0;
    for sum in sums.collect::<Result<Vec<_>>>()? {
        total += sum.await?;
    }
    Ok(total)
}

#[function]
async fn echo(info: &Info, value: (Value,)) -> Result<Value> {
    log_run("echo", info.id());
    Ok(value.0)
}

#[function]
async fn nap(ctx: &Context, seconds: (f64,)) -> Result<String> {
    log_run("nap", ctx.id());
    ctx.sleep(Duration::from_secs_f64(seconds.0)).await?;
    Ok("rested".to_string())
}

/// Wait for a promise that is settled from outside.
#[function]
async fn ask(ctx: &Context, _nothing: Vec<Value>) -> Result<Value> {
    log_run("ask", ctx.id());
    ctx.promise().await
}

/// Start another function without waiting for it; return its promise id.
#[function]
async fn launch(ctx: &Context, left: i64, right: i64) -> Result<String> {
    log_run("launch", ctx.id());
    ctx.detached("add", (left, right)).spawn()?.id().await
}

/// Go from one worker to the next; from the last one start another chain without waiting for it.
#[function]
async fn launch_below(ctx: &Context, groups: Vec<String>, then: Vec<String>) -> Result<String> {
    log_run("launch_below", ctx.id());
    match groups.split_first() {
        None => ctx.detached("relay", (then, 0)).spawn()?.id().await,
        Some((group, others)) => ctx.rpc("launch_below", (others, then)).target(group).await,
    }
}

static FALLS: LazyLock<Mutex<HashMap<String, i64>>> = LazyLock::new(Mutex::default);

/// Fail that many times, then succeed. The SDK retries only panics, by releasing the task to the server.
#[function]
async fn stumble(info: &Info, times: (i64,)) -> Result<String> {
    log_run("stumble", info.id());
    let fall = {
        let mut falls = FALLS.lock().unwrap();
        let fall = falls.entry(info.id().to_string()).or_default();
        *fall += 1;
        *fall
    };
    assert!(fall > times.0, "fall {fall}");
    Ok("arrived".to_string())
}

/// The same, as a step.
#[function]
async fn walk(ctx: &Context, times: (i64,)) -> Result<String> {
    log_run("walk", ctx.id());
    ctx.run(stumble, times).await
}

/// Run a quick step, then one that lasts until `file` exists.
#[function]
async fn hold(ctx: &Context, file: (String,)) -> Result<i64> {
    log_run("hold", ctx.id());
    let sum = ctx.run(add, (1, 2)).await?;
    ctx.run(wait_for_file, file).await?;
    Ok(sum)
}

#[function]
async fn wait_for_file(info: &Info, file: (String,)) -> Result<()> {
    log_run("wait_for_file", info.id());
    while !Path::new(&file.0).exists() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

// ── client ──────────────────────────────────────────────────────────────────────────────────────────────────

fn connect(group: &str, lease_seconds: f64) -> Result<Resonate> {
    let ttl = Some((lease_seconds * 1000.0) as u64);
    let resonate = Resonate::new(ResonateConfig { group: Some(group.into()), ttl, ..Default::default() });
    resonate.register(relay)?;
    resonate.register(complain)?;
    resonate.register(add)?;
    resonate.register(fan)?;
    resonate.register(echo)?;
    resonate.register(nap)?;
    resonate.register(ask)?;
    resonate.register(launch)?;
    resonate.register(launch_below)?;
    resonate.register(stumble)?;
    resonate.register(walk)?;
    resonate.register(hold)?;
    Ok(resonate)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// This SDK names a function to `run` by its type, so there is one client action for it.
async fn act(resonate: &Resonate, action: &str, args: &[Value]) -> Result<Value> {
    match (action, args) {
        ("run", [id, name, groups, number]) if name == "relay" => {
            let args = (serde_json::from_value(groups.clone())?, number.as_i64().unwrap_or_default());
            Ok(json!(resonate.run(text(id), relay, args).await?))
        }
        ("rpc", [group, id, name, rest @ ..]) => resonate.rpc(text(id), text(name), rest).target(text(group)).await,
        ("get", [id]) => resonate.get(text(id)).await?.result().await,
        _ => Err(Error::FunctionNotFound(action.to_string())),
    }
}

async fn answer(resonate: &Resonate, line: &str) -> Result<()> {
    let (number, action, args): (i64, String, Vec<Value>) = serde_json::from_str(line)?;
    let outcome = match act(resonate, &action, &args).await {
        Ok(value) => json!({"number": number, "value": value}),
        Err(error) => json!({"number": number, "error": format!("{error:?}"), "message": error.to_string()}),
    };
    println!("{outcome}");
    Ok(())
}

async fn serve_stdin(group: &str) -> Result<()> {
    let resonate = std::sync::Arc::new(connect(group, 60.0)?);
    let mut calls = tokio::task::JoinSet::new();
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let resonate = resonate.clone();
        calls.spawn(async move { answer(&resonate, &line).await });
    }
    for done in calls.join_all().await {
        done?;
    }
    resonate.stop().await
}

/// As this program's manifest pins it.
fn version() -> &'static str {
    let pinned = include_str!("Cargo.toml").split_once("resonate-sdk = \"=").unwrap().1;
    pinned.split('"').next().unwrap()
}

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    if args[1] == "client" {
        return serve_stdin(&args[2]).await;
    }
    let _resonate = connect(&args[2], args[3].parse().unwrap())?;
    println!("resonate-sdk {} serves {}", version(), args[2]);
    std::future::pending().await
}
