// Command native has the peers in Go do the work that the core does.
//
// It answers requests on its standard input, one a line: a workload, a contestant, and numbers. Each
// answer is a line of JSON with the figures. GOMAXPROCS and GOGC are as they come; the garbage of
// one turn is collected before the next.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
)

// Figures by name: one, or all that were observed.
type figures map[string][]float64

func main() {
	lines := bufio.NewScanner(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		debug.FreeOSMemory() // collects garbage, too
		if err := out.Encode(answer(strings.Fields(lines.Text()))); err != nil {
			panic(err)
		}
	}
}

func answer(words []string) figures {
	if len(words) < 2 {
		panic(fmt.Sprint("a workload and a contestant, not ", words))
	}
	workload, contestant := words[0], words[1]
	numbers := make([]int, 0, 2)
	for _, word := range words[2:] {
		number, err := strconv.Atoi(word)
		if err != nil {
			panic(err)
		}
		numbers = append(numbers, number)
	}
	switch workload {
	case "insert":
		return insert(services[contestant], numbers[0], numbers[1])
	case "churn":
		return churn(services[contestant], numbers[0], numbers[1])
	case "storm":
		return storm(services[contestant], numbers[0])
	case "pool":
		return runPool(pools[contestant], numbers[0], numbers[1])
	}
	panic(fmt.Sprint("no such workload: ", workload))
}

// must fails the benchmark: a workload that did not do its work has no figures.
func must(condition bool, what string) {
	if !condition {
		panic(what)
	}
}
