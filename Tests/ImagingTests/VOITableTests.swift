import Foundation
import Imaging
import Testing

@Suite struct VOITableTests {
    @Test func valuesOutsideTakeTheEnds() throws {
        let table = try #require(VOITable(firstMapped: -2, entries: [0, 1023, 512], bits: 10))
        #expect([-50, -2, -1, 0, 9].map { table($0) } == [0, 0, 1, 512 / 1023, 512 / 1023])
        #expect(VOITable(firstMapped: 0, entries: [], bits: 8) == nil && VOITable(firstMapped: 0, entries: [1], bits: 17) == nil)
    }

    /// What the renderer does with `steps`: window to 0…1, rounded to one of 256 greys.
    private func drawn(_ table: VOITable, _ x: Double) -> UInt8 {
        let (window, greys) = table.steps
        return greys[Int((window(x) * 255 + 0.5).rounded(.down))]
    }

    @Test func tablesThatChangeOver256ValuesAreDrawnExactly() throws {
        var entries = [UInt16](repeating: 4095, count: 1000)
        for i in 0..<300 { entries[i] = 0 }
        for i in 0..<250 { entries[300 + i] = UInt16(i * i * 4095 / (250 * 250)) }
        let table = try #require(VOITable(firstMapped: -500, entries: entries, bits: 12))
        for x in -700...700 { #expect(drawn(table, Double(x)) == UInt8((table(Double(x)) * 255 + 0.5).rounded(.down)), "\(x)") }
    }

    @Test func wideTablesAreDrawnWithinTheirStep() throws {
        // A sigmoid over 4096 values; 256 greys are at most eight values away.
        let entries = (0..<4096).map { UInt16(4095 / (1 + exp2(-(Double($0) - 2048) / 300))) }
        let table = try #require(VOITable(firstMapped: 0, entries: entries, bits: 12))
        for x in stride(from: 0, to: 4096, by: 7) {
            let near = [table(Double(x) - 9), table(Double(x) + 9)].map { $0 * 255 }
            #expect(Double(drawn(table, Double(x))) >= near[0] - 1 && Double(drawn(table, Double(x))) <= near[1] + 1)
        }
    }

    @Test func aConstantTableIsDrawn() throws {
        let table = try #require(VOITable(firstMapped: 7, entries: [128, 128], bits: 8))
        #expect(drawn(table, 0) == 128 && drawn(table, 1e6) == 128)
    }
}
