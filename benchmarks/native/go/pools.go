package main

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/alitto/pond"
	pond2 "github.com/alitto/pond/v2"
	"github.com/panjf2000/ants/v2"
)

// Workers of every pool.
const workers = 8

// A pool has functions run by its workers; nobody waits for a single one.
type pool struct {
	post func(task func())
	stop func()
}

var pools = map[string]func(count int) pool{
	// It must have a bound: as many as there are.
	"pond1": func(count int) pool {
		made := pond.New(workers, count)
		return pool{made.Submit, made.StopAndWait}
	},
	"pond2": func(int) pool {
		made := pond2.NewPool(workers)
		post := func(task func()) { must(made.Go(task) == nil, "refused") }
		return pool{post, made.StopAndWait}
	},
	// It has no queue: who posts waits for a worker.
	"ants": func(int) pool {
		made, err := ants.NewPool(workers)
		must(err == nil, "no pool")
		post := func(task func()) { must(made.Submit(task) == nil, "refused") }
		return pool{post, made.Release}
	},
}

// Has count tasks run that producers goroutines post: from the first post until all have run.
func runPool(start func(count int) pool, producers, count int) figures {
	workers := start(count)
	runAll(workers, 1, 1_000) // they are there
	took := runAll(workers, producers, count/producers)
	workers.stop()
	return figures{"ns": each(took, count/producers*producers)}
}

func runAll(workers pool, producers, share int) time.Duration {
	total := int64(share * producers)
	var ran atomic.Int64
	over := make(chan struct{})
	task := func() {
		if ran.Add(1) == total {
			close(over)
		}
	}
	var gate sync.WaitGroup
	gate.Add(1)
	for range producers {
		go func() {
			gate.Wait()
			for range share {
				workers.post(task)
			}
		}()
	}
	begin := time.Now()
	gate.Done()
	<-over
	return time.Since(begin)
}
