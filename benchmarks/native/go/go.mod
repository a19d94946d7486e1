module asynctask.benchmarks/native

go 1.24

require (
	github.com/RussellLuo/timingwheel v0.0.0-20220218152713-54845bda3108
	github.com/alitto/pond v1.9.1
	github.com/alitto/pond/v2 v2.7.1
	github.com/panjf2000/ants/v2 v2.12.1
	github.com/rfyiamcool/go-timewheel v1.1.0
)

require golang.org/x/sync v0.11.0 // indirect
