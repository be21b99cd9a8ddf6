// Tomos's side of `tomos-bench`: does one repetition of a case each time it is asked, so that the harness can let it and its peers
// take turns. One JSON object per line in, one out; Documentation/Benchmarks.md describes them.
import Dispatch
import Foundation

func serve() async {
    let bench = Bench()
    while let line = readLine() {
        var answer: Answer
        do {
            let request = try JSONDecoder().decode(Request.self, from: Data(line.utf8))
            if request.do == "quit" { break }
            answer = try await bench.answer(request)
        } catch {
            answer = Answer(error: "\(error)")
        }
        let text = (try? JSONEncoder().encode(answer)) ?? Data(#"{"error":"a figure is no number"}"#.utf8)
        FileHandle.standardOutput.write(text + Data("\n".utf8))
    }
}

// The main thread waits. With `await` here it would be given up, which valgrind (`tomos-bench counters`) does not live through.
let end = DispatchSemaphore(value: 0)
Task.detached {
    await serve()
    end.signal()
}
end.wait()
