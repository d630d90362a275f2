/// The mutant under test, from the environment: LIBTRAIN_MUTANT is its number.
#include <cstdlib>

extern "C" {
unsigned char libtrain_sites[65536];
bool libtrain_mutants_recorded = std::getenv("LIBTRAIN_MUTANTS_RECORDED") != nullptr;
int libtrain_mutant = std::getenv("LIBTRAIN_MUTANT") ? std::atoi(std::getenv("LIBTRAIN_MUTANT")) : -1;
}
