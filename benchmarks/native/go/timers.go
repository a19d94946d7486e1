package main

import (
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/RussellLuo/timingwheel"
	timewheel "github.com/rfyiamcool/go-timewheel"
)

// A service calls functions back after a delay. What after gives, cancel takes; it says whether the
// timer was there, if the service tells.
type service struct {
	after  func(delay time.Duration, callback func()) any
	cancel func(timer any) bool
	stop   func()
}

var services = map[string]func() service{
	"AfterFunc": func() service {
		return service{
			after: func(delay time.Duration, callback func()) any {
				return time.AfterFunc(delay, callback)
			},
			cancel: func(timer any) bool { return timer.(*time.Timer).Stop() },
			stop:   func() {},
		}
	},
	// Slots for more than two minutes, so that no timer has to be looked at once a round.
	"go-timewheel": func() service {
		wheel, err := timewheel.NewTimeWheel(5*time.Millisecond, 30_000)
		must(err == nil, "no wheel")
		wheel.Start()
		return service{
			after: func(delay time.Duration, callback func()) any {
				return wheel.Add(delay, callback)
			},
			cancel: func(timer any) bool { return wheel.Remove(timer.(*timewheel.Task)) == nil },
			stop:   wheel.Stop,
		}
	},
	// As its README and its own benchmarks have it.
	"timingwheel": func() service {
		wheel := timingwheel.NewTimingWheel(time.Millisecond, 20)
		wheel.Start()
		return service{
			after: func(delay time.Duration, callback func()) any {
				return wheel.AfterFunc(delay, callback)
			},
			cancel: func(timer any) bool { return timer.(*timingwheel.Timer).Stop() },
			stop:   wheel.Stop,
		}
	},
}

// Xorshift: the same numbers in each run, for each contestant, in each language.
type random uint64

func newRandom() *random {
	seed := random(0x9E37_79B9_7F4A_7C15)
	return &seed
}

func (r *random) below(bound uint64) uint64 {
	*r ^= *r << 13
	*r ^= *r >> 7
	*r ^= *r << 17
	high, _ := bits.Mul64(uint64(*r), bound)
	return high
}

// A minute to two: spread over a minute, and none due while it is measured.
func (r *random) delay() time.Duration {
	return time.Minute + time.Duration(r.below(uint64(time.Minute)))
}

func (r *random) delays(count int) []time.Duration {
	delays := make([]time.Duration, count)
	for at := range delays {
		delays[at] = r.delay()
	}
	return delays
}

func each(took time.Duration, count int) []float64 {
	return []float64{float64(took.Nanoseconds()) / float64(count)}
}

// Inserts count timers where pending are: by as many at a time as change that little, which are
// taken out again, untimed.
func insert(start func() service, pending, count int) figures {
	numbers := newRandom()
	timers := start()
	var fired atomic.Int64
	callback := func() { fired.Add(1) }
	kept := make([]any, pending)
	for at := range kept {
		kept[at] = timers.after(numbers.delay(), callback)
	}
	delays := numbers.delays(max(pending/100, 100))
	added := make([]any, len(delays))
	var took time.Duration
	done := 0
	for done < count {
		begin := time.Now()
		for at, delay := range delays {
			added[at] = timers.after(delay, callback)
		}
		took += time.Since(begin)
		done += len(delays)
		empty(timers, added)
	}
	empty(timers, kept)
	timers.stop()
	must(fired.Load() == 0, "early")
	return figures{"ns": each(took, done)}
}

func empty(timers service, kept []any) {
	for at, timer := range kept {
		must(timers.cancel(timer), "lost")
		kept[at] = nil
	}
}

// Inserts one and cancels one, count times over pending: first the oldest, then any.
func churn(start func() service, pending, count int) figures {
	numbers := newRandom()
	timers := start()
	var fired atomic.Int64
	callback := func() { fired.Add(1) }
	kept := make([]any, pending)
	for at := range kept {
		kept[at] = timers.after(numbers.delay(), callback)
	}
	delays := numbers.delays(count)
	found := figures{}
	for _, order := range []string{"fifo", "random"} {
		if order == "random" {
			for at := pending - 1; at > 0; at-- {
				other := numbers.below(uint64(at + 1))
				kept[at], kept[other] = kept[other], kept[at]
			}
		}
		cancelled, at := 0, 0
		begin := time.Now()
		for _, delay := range delays {
			oldest := kept[at]
			kept[at] = timers.after(delay, callback)
			if timers.cancel(oldest) {
				cancelled++
			}
			if at++; at == pending {
				at = 0
			}
		}
		found[order] = each(time.Since(begin), count)
		must(cancelled == count, "lost")
	}
	empty(timers, kept)
	timers.stop()
	must(fired.Load() == 0, "early")
	return found
}

// Lets count timers be due at one instant, and until the last has run posts another every 20 µs:
// how long each of those calls took.
func storm(start func() service, count int) figures {
	const pace = 20 * time.Microsecond
	for lead := 1500 * time.Millisecond; ; lead *= 2 {
		timers := start()
		deadline := time.Now().Add(lead)
		var ran, early atomic.Int64
		for range count {
			timers.after(time.Until(deadline), func() {
				if time.Now().Before(deadline) {
					early.Add(1)
				}
				ran.Add(1)
			})
		}
		if time.Until(deadline) < 50*time.Millisecond {
			for ran.Load() < int64(count) { // `time` can drop none of them
				time.Sleep(time.Millisecond)
			}
			timers.stop()
			continue // too slow to have them all wait
		}
		time.Sleep(time.Until(deadline) - 20*time.Millisecond) // or it would be woken after them
		var stalls []float64
		var posted []any
		next := deadline
		for ran.Load() < int64(count) {
			for time.Now().Before(next) {
			}
			begin := time.Now()
			timer := timers.after(time.Minute, func() {})
			end := time.Now()
			posted = append(posted, timer)
			stalls = append(stalls, float64(end.Sub(begin).Nanoseconds()))
			next = end.Add(pace)
			must(end.Before(deadline.Add(time.Minute)), "lost")
		}
		took := time.Since(deadline)
		empty(timers, posted)
		timers.stop()
		must(ran.Load() == int64(count), "twice")
		return figures{
			"stall": stalls,
			"ns":    each(took, count),
			"early": {float64(early.Load())},
		}
	}
}
