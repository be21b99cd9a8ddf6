// Tomos's side of `tomos-bench`: does one repetition of a case each time it is asked, so that the harness can let it and its peers
// take turns. One JSON object per line in, one out; Documentation/Benchmarks.md describes them.
import Foundation

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
    FileHandle.standardOutput.write(try JSONEncoder().encode(answer) + Data("\n".utf8))
}
