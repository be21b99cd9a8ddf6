import FrameCoding
import Imaging
import Testing

@Suite struct RasterEncodingTests {
    static let sizes = [PixelSize(1, 1), PixelSize(2, 3), PixelSize(17, 5), PixelSize(5, 64), PixelSize(257, 130)]

    @Test(arguments: sizes) func losslessFormsGiveTheSamePixels(size: PixelSize) throws {
        for raster in [Pictures.grey(size.width, size.height), Pictures.rgb(size.width, size.height),
                       Pictures.static_(size.width, size.height, samples: 1), Pictures.static_(size.width, size.height, samples: 3)] {
            #expect(try Raster(decoding: raster.encoded(as: .png)) == raster)
            for effort in [0, 1, 2] {
                let decoded = try Raster(decoding: raster.encoded(as: .webPLossless(effort: effort)))
                #expect(decoded == Pictures.inColor(raster))
            }
        }
    }

    @Test func bandsAreTheRowsOfThePicture() throws {
        for raster in [Pictures.grey(150, 97), Pictures.rgb(150, 97)] {
            for rows in [0..<1, 0..<97, 13..<50, 96..<97] {
                let part = Pictures.rows(rows, of: raster)
                #expect(try Raster(decoding: raster.encoded(as: .png, rows: rows)) == part)
                #expect(try Raster(decoding: raster.encoded(as: .webPLossless(), rows: rows)) == Pictures.inColor(part))
                for lossy in [FrameCodec.jpeg(quality: 80), .webP(quality: 80)] {
                    #expect(try raster.encoded(as: lossy, rows: rows) == part.encoded(as: lossy))
                }
            }
        }
    }

    @Test(arguments: [{ FrameCodec.jpeg(quality: $0) }, { .webP(quality: $0) }, { .webP(quality: $0, method: 0) }] as [@Sendable (Int) -> FrameCodec])
    func moreQualityCostsBytesAndLosesLess(codec: @Sendable (Int) -> FrameCodec) throws {
        for raster in [Pictures.grey(256, 256), Pictures.rgb(256, 256)] {
            var bytes = 0, loss = Double.infinity
            for quality in [30, 50, 80, 95] {
                let file = try raster.encoded(as: codec(quality))
                let decoded = try Raster(decoding: file)
                #expect(decoded.size == raster.size)
                let l = Pictures.meanSquaredError(decoded, raster)
                #expect(file.count > bytes && l < loss)
                bytes = file.count; loss = l
            }
            // Grey at 95 is nearly the original: better than 32 dB even of this grain. Colour grain falls to WebP's 4:2:0.
            if case .grey = raster.pixels { #expect(loss < 255.0 * 255 / 1585) }
        }
    }

    @Test func greyJPEGHasOneComponentAndColorKeepsItsChromaFromQuality80() throws {
        let grey = try Raster(decoding: Pictures.grey(64, 64).encoded(as: .jpeg(quality: 50)))
        if case .grey = grey.pixels {} else { Issue.record("grey became colour") }
        // The sampling factors of the first component: SOF0, byte 11.
        func sampling(_ q: Int) throws -> UInt8 {
            let file = try Pictures.rgb(64, 64).encoded(as: .jpeg(quality: q))
            let sof = try #require((0..<(file.count - 12)).first { file[$0] == 0xff && file[$0 + 1] == 0xc0 })
            return file[sof + 11]
        }
        #expect(try sampling(79) == 0x22)
        #expect(try sampling(80) == 0x11)
    }

    @Test func theListOfJPEGQualitiesThatKeepBlackAndWhiteIsTheLibrarys() throws {
        for quality in 49...100 {
            let exact = try [0, 255].allSatisfy { (level: UInt8) in
                let raster = Pictures.uniform(level, 32, 32)
                return try Raster(decoding: raster.encoded(as: .jpeg(quality: quality))) == raster
            }
            #expect(FrameCodec.keepsBlackAndWhite(jpegQuality: quality) == exact, "quality \(quality)")
        }
        #expect((1..<49).allSatisfy { !FrameCodec.keepsBlackAndWhite(jpegQuality: $0) })
        for rung in FrameRung.jpeg {
            guard case .jpeg(let quality) = rung.coding else { Issue.record("not JPEG"); continue }
            #expect(FrameCodec.keepsBlackAndWhite(jpegQuality: quality))
            for level: UInt8 in [0, 255] {
                let color = Pictures.uniform(level, 32, 32, samples: 3)
                #expect(try Raster(decoding: color.encoded(as: rung.coding)) == color)
            }
        }
    }

    /// Unlike JPEG's, WebP's shift at low quality is one level, which nobody sees; from quality 80 on there is none.
    @Test func webPMovesBlackAndWhiteByOneLevelAtMost() throws {
        for rung in FrameRung.webP {
            guard case .webP(let quality, _) = rung.coding else { Issue.record("not lossy WebP"); continue }
            for level: UInt8 in [0, 255] {
                for samples in [1, 3] {
                    let decoded = try Raster(decoding: Pictures.uniform(level, 40, 24, samples: samples).encoded(as: rung.coding))
                    let off = Pictures.bytes(decoded).map { abs(Int($0) - Int(level)) }.max()!
                    #expect(off <= (quality >= 80 ? 0 : 1))
                }
            }
        }
    }

    @Test func greyWebPIsTheSameFileAsThatOfThreeEqualChannels() throws {
        let grey = Pictures.grey(131, 77)
        #expect(try grey.encoded(as: .webP(quality: 70)) == Pictures.inColor(grey).encoded(as: .webP(quality: 70)))
        #expect(try grey.encoded(as: .webPLossless()) == Pictures.inColor(grey).encoded(as: .webPLossless()))
    }

    @Test func manyThreadsGetTheSameBytesAsOne() async throws {
        let pictures = (0..<4).map { Pictures.rgb(90 + $0, 70, seed: UInt64($0)) }
        let codecs: [FrameCodec] = [.jpeg(quality: 80), .jpeg(quality: 50), .png, .webP(quality: 50), .webPLossless()]
        let expected = try pictures.map { p in try codecs.map { try p.encoded(as: $0) } }
        try await withThrowingTaskGroup(of: Bool.self) { group in
            for i in 0..<48 {
                group.addTask { try pictures[i % 4].encoded(as: codecs[i % 5]) == expected[i % 4][i % 5] }
            }
            for try await equal in group { #expect(equal) }
        }
    }

    @Test func unusableRequestsAreTypedErrors() throws {
        let raster = Pictures.grey(8, 8)
        for codec in [FrameCodec.jpeg(quality: 0), .jpeg(quality: 101), .webP(quality: 0), .webP(quality: 50, method: 7), .webPLossless(effort: 10)] {
            #expect(throws: CodingError.self) { try raster.encoded(as: codec) }
        }
        for rows in [0..<9, -1..<4, 3..<3] {
            #expect(throws: CodingError.rowsOutside(rows: rows, height: 8)) { try raster.encoded(as: .png, rows: rows) }
        }
        let values = Raster(size: PixelSize(1, 1), pixels: .values([0]))
        #expect(throws: CodingError.self) { try values.encoded(as: .png) }
        let wide = Pictures.uniform(0, 20_000, 1)
        #expect(throws: CodingError.tooLarge(.webP, limit: 16_383)) { try wide.encoded(as: .webP(quality: 50)) }
        #expect(try Raster(decoding: wide.encoded(as: .png)) == wide)
    }

    @Test func damagedFilesAreTypedErrors() throws {
        #expect(throws: CodingError.self) { try Raster(decoding: []) }
        #expect(throws: CodingError.self) { try Raster(decoding: Array("not a picture".utf8)) }
        for codec in [FrameCodec.png, .webPLossless(), .webP(quality: 50)] {
            let file = try Pictures.rgb(50, 50).encoded(as: codec)
            #expect(throws: CodingError.self) { try Raster(decoding: Array(file[..<(file.count / 2)])) }
        }
        #expect(throws: CodingError.self) { try Raster(decoding: [0xff, 0xd8, 0xff, 0xd9]) }
    }
}

@Suite struct GIFReaderTests {
    @Test func whatIsWrittenIsReadAgain() throws {
        let grey = Raster(size: PixelSize(37, 23), pixels: .grey((0..<37 * 23).map { UInt8(truncatingIfNeeded: $0 &* 31) }))
        #expect(try GIFReader(GIFWriter.still(grey), largest: 1 << 20).pictures == [grey])
        var writer = try GIFWriter(size: PixelSize(37, 23), delay: 5)
        let second = Raster(size: grey.size, pixels: .grey([UInt8](repeating: 200, count: 37 * 23)))
        try writer.append(grey); try writer.append(second)
        #expect(try GIFReader(writer.finished(), largest: 1 << 20).pictures == [grey, second])
    }

    /// Damaged, cut and made up files end in an error or in pictures no larger than allowed.
    @Test func damagedFilesEndInAnError() throws {
        let good = try GIFWriter.still(Raster(size: PixelSize(40, 30), pixels: .grey((0..<1200).map { UInt8(truncatingIfNeeded: $0 &* 7) })))
        var random = SystemRandomNumberGenerator(), refused = 0
        for round in 0..<3000 {
            var bytes = round % 3 == 0 ? Array(good.prefix(Int.random(in: 0...good.count, using: &random))) : good
            for _ in 0..<(round % 7) where !bytes.isEmpty { bytes[Int.random(in: 0..<bytes.count, using: &random)] = .random(in: 0...255, using: &random) }
            do { #expect(try GIFReader(bytes, largest: 4000).pictures.reduce(0) { $0 + $1.size.count } <= 4000) } catch { refused += 1 }
        }
        #expect(refused > 500)
        #expect(throws: CodingError.self) { try GIFReader(good, largest: 1000) }
    }
}
