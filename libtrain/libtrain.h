/// The whole library.
#pragma once
#include "libtrain/checkpoint.h"
#include "libtrain/data/batch_source.h"
#include "libtrain/nn/decode.h"
#include "libtrain/nn/transformer.h"
#include "libtrain/ops.h"
#include "libtrain/optim/adam.h"
#include "libtrain/optim/clip_by_norm.h"
#include "libtrain/optim/schedule.h"
#include "libtrain/parameters.h"
#include "libtrain/tape.h"
#include "libtrain/tensor.h"
#include "libtrain/train_loop.h"
