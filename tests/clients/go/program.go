// A worker and a client on the Go SDK: the counterpart of program.py, with the same command line and functions.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	resonate "github.com/resonatehq/resonate-sdk-go"
	"github.com/resonatehq/resonate-sdk-go/httpnet"
)

const sdk = "github.com/resonatehq/resonate-sdk-go"

var (
	group  string
	atOnce = resonate.ConstantRetry{MaxAttempts: 6}
)

// arguments is the list that every SDK sends; this SDK passes it on as a single value.
type arguments []json.RawMessage

func (a arguments) into(targets ...any) error {
	if len(a) != len(targets) {
		return resonate.NewNonRetryable(fmt.Errorf("%d arguments, not %d", len(a), len(targets)))
	}
	for n, target := range targets {
		if err := json.Unmarshal(a[n], target); err != nil {
			return resonate.NewNonRetryable(err)
		}
	}
	return nil
}

// ── durable functions ───────────────────────────────────────────────────────────────────────────────────────

func logRun(ctx resonate.Info, name string) {
	fmt.Printf("running function %s  promise=%s\n", name, ctx.ID())
}

// relay sends number through one worker after another; each hop adds 1.
func relay(ctx *resonate.Context, args arguments) (any, error) {
	logRun(ctx, "relay")
	var groups []string
	var number int
	if err := args.into(&groups, &number); err != nil || len(groups) == 0 {
		return number, err
	}
	return await(ctx.RPC("relay", []any{groups[1:], number + 1}, resonate.RPCOpts{Target: groups[0]}))
}

// complain fails at the end of the chain. A failing function is retried unless it says otherwise.
func complain(ctx *resonate.Context, args arguments) (any, error) {
	logRun(ctx, "complain")
	var groups []string
	var message string
	if err := args.into(&groups, &message); err != nil {
		return nil, err
	}
	if len(groups) == 0 {
		return nil, resonate.NewNonRetryable(errors.New(message))
	}
	value, err := await(ctx.RPC("complain", []any{groups[1:], message}, resonate.RPCOpts{Target: groups[0]}))
	return value, resonate.NewNonRetryable(err)
}

func add(ctx resonate.Info, args arguments) (any, error) {
	logRun(ctx, "add")
	var left, right int
	err := args.into(&left, &right)
	return left + right, err
}

// fan adds up 1 to count, all additions at once, each by a worker of the group.
func fan(ctx *resonate.Context, args arguments) (any, error) {
	logRun(ctx, "fan")
	var target string
	var count, total int
	if err := args.into(&target, &count); err != nil {
		return nil, err
	}
	sums := make([]*resonate.Future, count)
	for n := range sums {
		sum, err := ctx.RPC("add", []any{n + 1, 0}, resonate.RPCOpts{Target: target})
		if err != nil {
			return nil, err
		}
		sums[n] = sum
	}
	for _, sum := range sums {
		var number int
		if err := sum.Await(&number); err != nil {
			return nil, err
		}
		total += number
	}
	return total, nil
}

func echo(ctx resonate.Info, args arguments) (any, error) {
	logRun(ctx, "echo")
	var value any
	err := args.into(&value)
	return value, err
}

func nap(ctx *resonate.Context, args arguments) (any, error) {
	logRun(ctx, "nap")
	var seconds float64
	if err := args.into(&seconds); err != nil {
		return nil, err
	}
	_, err := await(ctx.Sleep(time.Duration(seconds * float64(time.Second))))
	return "rested", err
}

// ask waits for a promise that is settled from outside.
func ask(ctx *resonate.Context, _ arguments) (any, error) {
	logRun(ctx, "ask")
	return await(ctx.Promise())
}

// launch starts another function without waiting for it, and returns its promise id.
func launch(ctx *resonate.Context, args arguments) (any, error) {
	logRun(ctx, "launch")
	return ctx.Detached("add", args)
}

// launchBelow goes from one worker to the next; from the last one it starts another chain without waiting for it.
func launchBelow(ctx *resonate.Context, args arguments) (any, error) {
	logRun(ctx, "launch_below")
	var groups, then []string
	if err := args.into(&groups, &then); err != nil {
		return nil, err
	}
	if len(groups) == 0 {
		return ctx.Detached("relay", []any{then, 0})
	}
	return await(ctx.RPC("launch_below", []any{groups[1:], then}, resonate.RPCOpts{Target: groups[0]}))
}

var falls sync.Map

// stumble fails that many times, then succeeds.
func stumble(ctx resonate.Info, args arguments) (any, error) {
	logRun(ctx, "stumble")
	var times int
	if err := args.into(&times); err != nil {
		return nil, err
	}
	before, _ := falls.LoadOrStore(ctx.ID(), 0)
	falls.Store(ctx.ID(), before.(int)+1)
	if before.(int) < times {
		return nil, fmt.Errorf("fall %d", before.(int)+1)
	}
	return "arrived", nil
}

// walk does the same, as a step.
func walk(ctx *resonate.Context, args arguments) (any, error) {
	logRun(ctx, "walk")
	return await(ctx.Run(stumble, args, resonate.RunOpts{RetryPolicy: atOnce}))
}

// hold runs a quick step, then one that lasts until a file exists.
func hold(ctx *resonate.Context, args arguments) (any, error) {
	logRun(ctx, "hold")
	sum, err := await(ctx.Run(add, arguments{json.RawMessage("1"), json.RawMessage("2")}))
	if err != nil {
		return nil, err
	}
	_, err = await(ctx.Run(waitForFile, args))
	return sum, err
}

func waitForFile(ctx resonate.Info, args arguments) (any, error) {
	logRun(ctx, "wait_for_file")
	var file string
	if err := args.into(&file); err != nil {
		return nil, err
	}
	for {
		if _, err := os.Stat(file); err == nil {
			return nil, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func await(future *resonate.Future, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	var value any
	err = future.Await(&value)
	return value, err
}

// ── client ──────────────────────────────────────────────────────────────────────────────────────────────────

type outcome struct {
	Number  json.RawMessage `json:"number"`
	Value   any             `json:"value,omitempty"`
	Error   string          `json:"error,omitempty"`
	Message string          `json:"message,omitempty"`
}

type client struct {
	*resonate.Resonate
	functions map[string]*resonate.RegisteredFunc[arguments, any]
}

func (c *client) act(action string, args arguments) (any, error) {
	ctx := context.Background()
	var target, id, name string
	switch action {
	case "run":
		if err := args[:2].into(&id, &name); err != nil {
			return nil, err
		}
		handle, err := c.functions[name].Run(ctx, id, args[2:])
		if err != nil {
			return nil, err
		}
		return handle.Result(ctx)
	case "rpc":
		if err := args[:3].into(&target, &id, &name); err != nil {
			return nil, err
		}
		return result(ctx)(c.RPC(ctx, id, name, args[3:], resonate.RPCOptions{Target: target}))
	case "get":
		if err := args.into(&id); err != nil {
			return nil, err
		}
		return result(ctx)(c.Get(ctx, id))
	}
	return nil, fmt.Errorf("no action %s", action)
}

func result(ctx context.Context) func(*resonate.Handle, error) (any, error) {
	return func(handle *resonate.Handle, err error) (any, error) {
		if err != nil {
			return nil, err
		}
		return resonate.ResultOf[any](ctx, handle)
	}
}

// answer does what the line says and prints the outcome.
func (c *client) answer(line []byte) {
	var number json.RawMessage
	var action string
	var args, all arguments
	if err := json.Unmarshal(line, &all); err != nil {
		panic(err)
	}
	if err := all.into(&number, &action, &args); err != nil {
		panic(err)
	}
	done := outcome{Number: number}
	var err error
	if done.Value, err = c.act(action, args); err != nil {
		done.Error, done.Message = fmt.Sprintf("%T", err), err.Error()
	}
	text, _ := json.Marshal(done)
	fmt.Println(string(text))
}

func (c *client) serveStdin() {
	var calls sync.WaitGroup
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		line := append([]byte(nil), lines.Bytes()...)
		calls.Add(1)
		go func() {
			defer calls.Done()
			c.answer(line)
		}()
	}
	calls.Wait()
	if err := c.Stop(); err != nil {
		panic(err)
	}
}

func connect(leaseSeconds float64) *client {
	network := httpnet.NewHTTP(os.Getenv("RESONATE_URL"), httpnet.HTTPOptions{Group: group})
	r, err := resonate.New(resonate.Config{Network: network, TTL: time.Duration(leaseSeconds * float64(time.Second))})
	if err != nil {
		panic(err)
	}
	c := &client{r, map[string]*resonate.RegisteredFunc[arguments, any]{}}
	register(c, "relay", relay)
	register(c, "complain", complain)
	register(c, "add", add)
	register(c, "fan", fan)
	register(c, "echo", echo)
	register(c, "nap", nap)
	register(c, "ask", ask)
	register(c, "launch", launch)
	register(c, "launch_below", launchBelow)
	register(c, "stumble", stumble)
	register(c, "walk", walk)
	register(c, "hold", hold)
	return c
}

func register[C resonate.Info](c *client, name string, function func(C, arguments) (any, error)) {
	registered, err := resonate.Register(c.Resonate, name, function)
	if err != nil {
		panic(err)
	}
	c.functions[name] = registered
}

func version() string {
	build, _ := debug.ReadBuildInfo()
	for _, module := range build.Deps {
		if module.Path == sdk {
			return module.Version
		}
	}
	return "unknown"
}

func main() {
	role, leaseSeconds := os.Args[1], 60.0
	group = os.Args[2]
	if role == "client" {
		connect(leaseSeconds).serveStdin()
		return
	}
	leaseSeconds, err := strconv.ParseFloat(os.Args[3], 64)
	if err != nil {
		panic(err)
	}
	connect(leaseSeconds)
	fmt.Printf("resonate-sdk %s serves %s\n", version(), group)
	select {}
}
